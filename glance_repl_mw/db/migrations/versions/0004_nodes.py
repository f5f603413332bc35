# SPDX-License-Identifier: Apache-2.0
"""Which node has a replica in hand, and a count of the row's changes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("replicas", sa.Column("node", sa.String(64)))
    op.add_column("replicas", sa.Column("version", sa.Integer, nullable=False, server_default="0"))
    op.create_index("ix_replicas_node", "replicas", ["node"])
