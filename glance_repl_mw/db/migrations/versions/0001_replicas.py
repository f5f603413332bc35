# SPDX-License-Identifier: Apache-2.0
"""The table of replicas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    timestamp = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
    identifier = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "replicas",
        sa.Column("id", identifier, primary_key=True, autoincrement=True),
        sa.Column("image_id", sa.String(36), nullable=False),
        sa.Column("target", sa.String(255), nullable=False),
        sa.Column("upload_id", sa.String(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("object_name", sa.String(255)),
        sa.Column("size", sa.BigInteger),
        sa.Column("bytes_sent", sa.BigInteger, nullable=False),
        sa.Column("location_url", sa.Text),
        sa.Column("checksum", sa.String(32)),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("next_attempt_at", timestamp),
        sa.Column("created_at", timestamp, nullable=False),
        sa.Column("updated_at", timestamp, nullable=False),
        sa.UniqueConstraint("upload_id", "target", name="uq_replicas_upload_id_target"),
    )
    op.create_index("ix_replicas_image_id_target", "replicas", ["image_id", "target"])
    op.create_index(
        "ix_replicas_status_next_attempt_at", "replicas", ["status", "next_attempt_at"]
    )
    op.create_index("ix_replicas_target_status", "replicas", ["target", "status"])
