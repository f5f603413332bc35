# SPDX-License-Identifier: Apache-2.0
"""What each node says of the targets, and the order in which replicas are listed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    timestamp = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
    op.create_table(
        "target_states",
        sa.Column("node", sa.String(64), primary_key=True),
        sa.Column("target", sa.String(255), primary_key=True),
        sa.Column("is_up", sa.Boolean, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("seen_at", timestamp, nullable=False),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
    op.create_index("ix_replicas_status_id", "replicas", ["status", "id"])
    op.create_index("ix_replicas_target_id", "replicas", ["target", "id"])
    op.create_index("ix_replicas_target_status_id", "replicas", ["target", "status", "id"])
    # What begins like another index is not needed beside it.
    op.drop_index("ix_replicas_target_status", "replicas")
