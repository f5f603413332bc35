# SPDX-License-Identifier: Apache-2.0
"""What the reconciler keeps: priorities, verification, wishes for targets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    timestamp = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
    columns = (
        sa.Column("priority", sa.SmallInteger, nullable=False, server_default="2"),
        sa.Column("withheld", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("verified_at", timestamp),
        sa.Column("read_back_at", timestamp),
    )
    for column in columns:
        op.add_column("replicas", column)
    op.create_index(
        "ix_replicas_target_status_verified_at", "replicas", ["target", "status", "verified_at"]
    )
    op.create_table(
        "target_wishes",
        sa.Column("target", sa.String(255), primary_key=True),
        sa.Column("wish", sa.String(16), nullable=False),
        sa.Column("created_at", timestamp, nullable=False),
    )
