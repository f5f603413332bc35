# SPDX-License-Identifier: Apache-2.0
"""Lets many threads of an OpenStack service share one SQLite file; imported by uWSGI's workers.

Services read first and write later in one transaction. SQLite answers "database is locked" at
once, whatever the timeout, when two of those meet, as they would not on a deployment's MySQL or
PostgreSQL. A transaction that takes the write lock at its beginning waits for it instead.
"""

from typing import Any

import sqlalchemy as sa


@sa.event.listens_for(sa.Engine, "before_cursor_execute", retval=True)
def _begin_immediate(
    _connection: Any, _cursor: Any, statement: str, parameters: Any, *_others: Any
) -> tuple[str, Any]:
    return ("BEGIN IMMEDIATE" if statement == "BEGIN" else statement), parameters
