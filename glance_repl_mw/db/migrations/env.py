# SPDX-License-Identifier: Apache-2.0
"""Run by alembic: migrates over the connection that ``db.schema`` hands in."""

from __future__ import annotations

from alembic import context

from glance_repl_mw.db import models

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=models.Base.metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
