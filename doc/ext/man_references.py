# SPDX-License-Identifier: Apache-2.0
"""In manual pages a reference to another document is its title alone, which cannot be followed."""

from __future__ import annotations

from typing import Any

from docutils import nodes


def flatten(app: Any, doctree: nodes.document, _: str) -> None:
    if app.builder.name == "man":
        for reference in list(doctree.findall(nodes.reference)):
            if not reference.get("refuri"):
                reference.replace_self(reference.children)


def setup(app: Any) -> dict[str, bool]:
    app.connect("doctree-resolved", flatten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
