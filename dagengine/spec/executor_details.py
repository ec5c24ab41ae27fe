"""What is wrong inside of executors beyond the kinds of their fields: shell, http and wait. Called by `document`.

What holds templates is looked at as far as it is constant; the rest shows when it runs.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Final

from dagengine.errors import SpecError
from dagengine.spec import expression, input_schema
from dagengine.spec.outline import NodeOutline, Outline, mapping
from dagengine.spec.path import Finding, Path
from dagengine.spec.plain import show
from dagengine.spec.suggestion import Suggestions

__all__ = ["findings"]

_OURS: Final = re.compile(r"\b(env\s*[.\[]|json\s*\()")
_NEVER_LATE: Final = "is what counts when nothing comes in time, and there is no `timeout`"


def findings(outline: Outline) -> Iterator[Finding]:
    """What is wrong in the executors of the nodes."""
    secrets = None if outline.secrets is None else _Secrets(outline.secrets)
    for node in outline.nodes:
        where: Path = (*node.path, "executor")
        match node.kind:
            case "shell":
                yield from _shell(node.executor, where)
            case "http":
                yield from _http(node.executor, where)
            case "wait":
                yield from _signal(mapping(node.executor.get("signal")), (*where, "signal"))
                yield from _approval(mapping(node.executor.get("approval")), (*where, "approval"))
        if secrets is not None:
            yield from secrets.findings(node, where)


class _Secrets:
    """The names in `configuration.secrets`, against what nodes use."""

    def __init__(self, listed: tuple[object, ...]) -> None:
        self._listed = {name for name in listed if isinstance(name, str)}
        self._hints = Suggestions(sorted(self._listed))

    def findings(self, node: NodeOutline, where: Path) -> Iterator[Finding]:
        for path, name in _secrets_of(node, where):
            if isinstance(name, str) and name and name not in self._listed:
                hint = self._hints.hint(name)
                yield Finding(path, f"secret {name!r} is not listed in spec.configuration.secrets{hint}")


def _secrets_of(node: NodeOutline, where: Path) -> Iterator[tuple[Path, object]]:
    if node.kind == "shell":
        for variable, name in mapping(node.executor.get("secrets")).items():
            yield (*where, "secrets", variable), name
    if node.kind == "http":
        yield (*where, "auth", "secret"), mapping(node.executor.get("auth")).get("secret")


def _shell(executor: Mapping[str, object], where: Path) -> Iterator[Finding]:
    command = executor.get("command")
    texts: list[tuple[Path, object]] = [((*where, "script"), executor.get("script"))]
    texts += [((*where, "command", at), word) for at, word in enumerate(command if isinstance(command, list) else ())]
    for path, found in texts:
        if isinstance(found, str) and (template := _template(found)):
            message = f"{template} is not read here, for what it gives could be run; pass it by `env` or `stdin`"
            yield Finding(path, message)
    if executor.get("shell") is not None and executor.get("command"):
        yield Finding((*where, "shell"), "is what runs `script`, and there is none; remove it")


def _template(text: str) -> str:
    """The first `{{ }}` in a script that reads what a workflow knows; others mean something to other programs."""
    for match in re.finditer(r"\{\{(.*?)\}\}", text, re.DOTALL):
        refers = expression.references(match[1])
        if refers != expression.References() or _OURS.search(match[1]):
            return show(match[0])[1:-1]
    return ""


def _http(executor: Mapping[str, object], where: Path) -> Iterator[Finding]:
    url = executor.get("url")
    if isinstance(url, str) and url and (complaint := _url(url)):
        yield Finding((*where, "url"), complaint)


def _url(url: str) -> str:
    try:
        parts = expression.parse_template(url)
    except SpecError:
        return ""  # `scope` complains
    beginning = parts[0].value if parts and isinstance(parts[0], expression.Text) else ""
    whole = len(parts) == 1 and bool(beginning)
    scheme, separator, rest = beginning.partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        return f"only http and https are known, got {show(beginning)}"
    if "@" in rest.partition("/")[0]:
        return "a name or a password does not belong into a URL; use `auth`"
    if not whole:
        return "" if separator or not beginning else f"expected a URL such as https://example.com/a, got {show(url)}"
    try:
        host = urllib.parse.urlsplit(url).hostname if separator and not re.search(r"\s", url) else None
    except ValueError:
        host = None
    return "" if host else f"expected a URL such as https://example.com/a, got {show(url)}"


def _signal(signal: Mapping[str, object], where: Path) -> Iterator[Finding]:
    payload = signal.get("payload")
    validator = None
    if isinstance(payload, dict) and payload:
        wrong, validator = input_schema.findings_of_payload(payload, (*where, "payload"))
        yield from wrong
    if "default" not in signal:
        return
    place: Path = (*where, "default")
    if signal["default"] is None:
        yield Finding(place, "null is the same as no default; leave it out, or give a value such as {}")
        return
    if validator is not None:
        yield from validator.findings(signal["default"], place)
    if signal.get("timeout") is None:
        yield Finding(place, _NEVER_LATE)


def _approval(approval: Mapping[str, object], where: Path) -> Iterator[Finding]:
    if approval.get("default") is not None and approval.get("timeout") is None:
        yield Finding((*where, "default"), _NEVER_LATE)
    who = approval.get("who")
    for place, name in enumerate(who if isinstance(who, list) else ()):
        if isinstance(name, str) and "{{" in name:
            yield Finding((*where, "who", place), f"expected a name, got {show(name)}; templates are not read here")
