# SPDX-License-Identifier: Apache-2.0
"""Why objects are deleted, and what is known of the Glance and the targets of the deployment."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_MYSQL: Any = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


_TIMESTAMP = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
_IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("replicas", sa.Column("former_objects", sa.Text))
    op.add_column("replicas", sa.Column("cause", sa.String(32)))
    # An active replica had a next attempt where its image was missing: absences tell that now.
    op.execute(
        "UPDATE replicas SET next_attempt_at = NULL, error = NULL "
        "WHERE status = 'active' AND next_attempt_at IS NOT NULL"
    )
    _create_images()
    _create_breaker()
    op.create_table(
        "deployment_facts",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        **_MYSQL,
    )


def _create_images() -> None:
    op.create_table(
        "image_absences",
        sa.Column("image_id", sa.String(36), primary_key=True),
        sa.Column("was_deleted", sa.Boolean, nullable=False),
        sa.Column("since", _TIMESTAMP, nullable=False),
        sa.Column("is_released", sa.Boolean, nullable=False, server_default=sa.false()),
        **_MYSQL,
    )
    op.create_index("ix_image_absences_since", "image_absences", ["since"])
    op.create_table(
        "witnesses",
        sa.Column("image_id", sa.String(36), primary_key=True),
        sa.Column("owner", sa.String(255)),
        sa.Column("created_at", _TIMESTAMP, nullable=False),
        **_MYSQL,
    )


def _create_breaker() -> None:
    op.create_table(
        "deletions",
        sa.Column("id", _IDENTIFIER, primary_key=True, autoincrement=True),
        sa.Column("image_id", sa.String(36), nullable=False),
        sa.Column("cause", sa.String(32), nullable=False),
        sa.Column("decided_at", _TIMESTAMP, nullable=False),
        **_MYSQL,
    )
    op.create_index("ix_deletions_decided_at", "deletions", ["decided_at"])
    op.create_table(
        "circuit_breaker",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("tripped_at", _TIMESTAMP),
        sa.Column("why", sa.Text),
        sa.Column("counts_since", _TIMESTAMP),
        **_MYSQL,
    )
