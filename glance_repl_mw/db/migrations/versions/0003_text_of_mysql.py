# SPDX-License-Identifier: Apache-2.0
"""MariaDB and MySQL: any characters, compared as they are, whatever the default there is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != "mysql":
        return
    for table in ("replicas", "target_wishes"):
        op.execute(f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
    # The conversion takes a wider type where a character may need more bytes than before.
    for column in ("location_url", "error"):
        op.alter_column("replicas", column, type_=sa.Text(), existing_nullable=True)
