# SPDX-License-Identifier: Apache-2.0
"""Is the filter in the pipeline, and at its place?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from glance_repl_mw import exceptions
from glance_repl_mw.checks.deployment import Deployment
from glance_repl_mw.checks.finding import Finding, error, ok, warning
from glance_repl_mw.checks.paste import PasteFile

_SECTION = "[filter:replication] paste.filter_factory = glance_repl_mw.filter:filter_factory"
_CONTEXT = "glance.api.middleware.context:"
_CACHE = "glance.api.middleware.cache:"


def check(deployment: Deployment) -> Iterator[Finding]:
    file = deployment.paste_file
    if file is None:
        remedy = "name the file in [paste_deploy] config_file, or give Glance's --config-file"
        yield error("pipeline", deployment.paste_problem, remedy)
        return
    flavor = deployment.glance.paste_deploy.flavor
    try:
        option, words = file.pipeline(flavor)
    except exceptions.ConfigError as problem:
        remedy = f"correct it or [paste_deploy] flavor, which is {flavor or 'not set'}"
        yield error("pipeline", str(problem), remedy)
        return
    where = f"{file.path}: {option}"
    findings = list(_placement(where, file, words))
    yield from findings or [ok(where, "the replication filter is at its place")]


def _placement(where: str, file: PasteFile, words: Sequence[str]) -> Iterator[Finding]:
    ours = [index for index, word in enumerate(words) if file.is_replication(word)]
    if not ours:
        section = "" if file.has_replication() else f"add the section {_SECTION}, and "
        remedy = f"{section}put its name directly after context"
        yield error(where, "the replication filter is not in the pipeline", remedy)
        return
    name, place = words[ours[0]], ours[0]
    if len(ours) > 1:
        yield error(where, "the replication filter is there twice", "remove one of the two")
    contexts = _places(file, words, _CONTEXT)
    if not contexts:
        yield error(where, "there is no context filter", "put context before the filter")
    elif place < contexts[-1]:
        yield error(where, f"{name} is before {words[contexts[-1]]}", "move it behind")
    if place == len(words) - 1:
        yield error(where, f"{name} is at the end, after the application", "move it before")
    elif any(cache < place for cache in _places(file, words, _CACHE)):
        yield warning(where, f"{name} is after cache", "move it between context and cache")


def _places(file: PasteFile, words: Sequence[str], factory: str) -> list[int]:
    return [
        index
        for index, word in enumerate(words)
        if file.implementation(word).startswith(f"call:{factory}")
    ]
