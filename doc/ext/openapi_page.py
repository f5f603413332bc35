# SPDX-License-Identifier: Apache-2.0
"""The directive ``openapi``: an OpenAPI document as sections and tables.

It writes reStructuredText for the requests and for the schemas, which Sphinx then reads in place
of the directive. It knows what the document of this project uses, and fails on anything else
that it would have to leave out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

_METHODS = ("get", "put", "delete")
_LIMITS = ("minimum", "maximum", "default", "pattern")


class OpenAPIDirective(Directive):
    """Takes the path of the document, beginning at the page that names it."""

    required_arguments = 1

    def run(self) -> list[Any]:
        environment = self.state.document.settings.env
        _, path = environment.relfn2path(self.arguments[0])
        environment.note_dependency(path)
        lines = StringList(list(Page(yaml.safe_load(Path(path).read_text())).lines()), path)
        self.state_machine.insert_input(lines, path)
        return []


class Page:
    """The document as lines of reStructuredText."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def lines(self) -> Iterator[str]:
        yield from _title("Requests", "=")
        for path, item in self._document["paths"].items():
            shared = item.get("parameters", [])
            for method, operation in item.items():
                if method == "parameters":
                    continue
                if method not in _METHODS:
                    raise ValueError(f"{path}: {method} is not rendered")
                yield from self._operation(method.upper(), path, operation, shared)
        yield from _title("Schemas", "=")
        for name, schema in self._document["components"]["schemas"].items():
            yield from self._schema(name, schema)

    def _operation(
        self, method: str, path: str, operation: Mapping[str, Any], shared: list[Any]
    ) -> Iterator[str]:
        yield from _title(f"``{method} {path}``", "-")
        yield f"{operation['summary']}."
        yield ""
        if "description" in operation:
            yield operation["description"].strip()
            yield ""
        parameters = [self._resolved(each) for each in (*shared, *operation.get("parameters", []))]
        if parameters:
            rows = [
                (f"``{each['name']}``", each["in"], self._value(each["schema"]), _text(each))
                for each in parameters
            ]
            yield from _table(("Parameter", "In", "Value", "Meaning"), rows, "20 10 30 40")
        answers = []
        for status, given in operation["responses"].items():
            answer = self._resolved(given)
            content = answer.get("content", {}).get("application/json", {})
            headers = ", ".join(f"``{name}``" for name in answer.get("headers", {}))
            answers.append((status, _text(answer), self._value(content.get("schema")), headers))
        yield from _table(("Status", "Meaning", "JSON", "Headers"), answers, "10 50 20 20")

    def _schema(self, name: str, schema: Mapping[str, Any]) -> Iterator[str]:
        yield f".. _schema-{name}:"
        yield ""
        yield from _title(name, "-")
        if "properties" not in schema:
            yield self._value(schema) + (f"; {_text(schema)}" if _text(schema) else "")
            yield ""
            return
        if _text(schema):
            yield _text(schema)
            yield ""
        rows = [
            (f"``{field}``", self._value(value), _text(value))
            for field, value in schema["properties"].items()
        ]
        yield from _table(("Field", "Value", "Meaning"), rows, "20 45 35")

    def _value(self, schema: Mapping[str, Any] | None) -> str:
        """The type in words, with a link where it has a name."""
        if schema is None:
            return ""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return f":ref:`{name} <schema-{name}>`"
        if "oneOf" in schema:
            return " or ".join(self._value(each) for each in schema["oneOf"])
        if "enum" in schema:
            return " or ".join(f"``{_json(each)}``" for each in schema["enum"])
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        words = [self._kind(kind, schema) for kind in kinds]
        limits = [f"{name} ``{schema[name]}``" for name in _LIMITS if name in schema]
        return ", ".join([" or ".join(words), *limits])

    def _kind(self, kind: str, schema: Mapping[str, Any]) -> str:
        if kind == "array":
            items = schema["items"]
            if "properties" in items:
                named = items["properties"].items()
                fields = (f"``{name}`` ({self._value(each)})" for name, each in named)
                return f"array of objects with {', '.join(fields)}"
            return f"array of {self._value(items)}"
        if kind == "object" and "additionalProperties" in schema:
            return f"object, each of its values: {self._value(schema['additionalProperties'])}"
        return kind

    def _resolved(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        """The item itself, where it is a reference."""
        if "$ref" not in item:
            return item
        found: Any = self._document
        for name in item["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return found


def _json(value: Any) -> str:
    return "null" if value is None else str(value)


def _text(item: Mapping[str, Any]) -> str:
    return " ".join(str(item.get("description", "")).split())


def _title(text: str, line: str) -> Iterator[str]:
    yield from ("", text, line * len(text), "")


def _table(headings: tuple[str, ...], rows: list[tuple[str, ...]], widths: str) -> Iterator[str]:
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield f"   :widths: {widths}"
    yield ""
    for row in (headings, *rows):
        for number, cell in enumerate(row):
            yield f"   {'* -' if number == 0 else '  -'} {cell}".rstrip()
    yield ""


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("openapi", OpenAPIDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
