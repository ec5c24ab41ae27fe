"""YAML text to plain values with places, from the parser's events: one pass, no recursion, nothing expanded unseen.

PyYAML's own construction speaks YAML 1.1, keeps the last of duplicate keys and follows aliases without a bound, so
only its parser (libyaml's, where it is there) is used. Called by `dagengine.spec.text`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from dagengine.errors import Problem
from dagengine.spec.path import Path, format_path
from dagengine.spec.plain import INTEGER_RANGE, MAX_DEPTH
from dagengine.spec.source import FatalError, Place, Source

__all__ = ["MAX_EXPANDED", "parse"]

MAX_EXPANDED: Final = 100_000
"""How many values the aliases of a document may stand for, all together."""

_MAX_PROBLEMS: Final = 1_000
"""Problems of the text alone that are told; nobody reads more, and a hostile text could have a million."""

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE: Final = "tag:yaml.org,2002:"
_SCALAR: Final = re.compile(
    r"(?P<null>~|null|Null|NULL|)"
    r"|(?P<true>true|True|TRUE)|(?P<false>false|False|FALSE)"
    r"|(?P<int>[-+]?[0-9]+)|0o(?P<oct>[0-7]+)|0x(?P<hex>[0-9a-fA-F]+)"
    r"|(?P<float>[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<odd>[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))"
)
_KINDS: Final = {
    "null": ("null",),
    "bool": ("true", "false"),
    "int": ("int", "oct", "hex"),
    "float": ("int", "float", "odd"),
}


class _NotText:
    """Stands for a key that could not be used, so that its value is read and dropped."""


_DROPPED: Final = _NotText()


@dataclass(slots=True)
class _Frame:
    """A list or mapping whose end has not come yet."""

    value: dict[str, Any] | list[Any]
    place: Place
    anchor: str | None
    is_key: bool
    key: str | _NotText | None = None
    key_place: Place | None = None
    size: int = 1
    height: int = 1
    places: dict[str, Place] = field(default_factory=dict)
    items: list[Place] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class _Anchored:
    value: Any
    place: Place
    size: int
    height: int


def parse(text: str) -> Source:
    """The values of one YAML document. Raises FatalError where the text cannot be read any further."""
    reader = _Reader()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            reader.take(event)
    except yaml.MarkedYAMLError as exc:
        raise _syntax_error(exc, text) from exc
    except yaml.YAMLError as exc:
        raise FatalError(f"not valid YAML: {exc}") from exc
    root = reader.root
    if root is None:
        raise FatalError("the document is empty", line=1, column=1)
    return Source(value=root.value, problems=reader.problems, places=lambda: root.place, text=text)


class _Reader:
    def __init__(self) -> None:
        self.root: _Anchored | None = None
        self.problems: list[Problem] = []
        self._stack: list[_Frame] = []
        self._anchors: dict[str, _Anchored | None] = {}
        self._expanded = 0

    def take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._start(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._end()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent() if self.root is not None:
                raise _fatal(event, "more than one YAML document in one text; write each into a text of its own")

    def _scalar(self, event: Any) -> None:
        place = _place(event)
        if self._expects_key():
            self._key(event, place)
            return
        value = self._resolve(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(value, place, 1, 0)
        self._add(value, place, 1, 0)

    def _start(self, event: Any) -> None:
        if len(self._stack) >= MAX_DEPTH:
            raise _fatal(event, f"nested deeper than {MAX_DEPTH} levels")
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        is_key = self._expects_key()
        if is_key:
            self._problem(event, _container_key(event, self._stack[-1]))
        elif event.tag is not None and event.tag != _CORE + ("map" if is_mapping else "seq"):
            self._problem(event, f"the tag {_short(event.tag)!r} is not allowed")
        frame = _Frame({} if is_mapping else [], _place(event), event.anchor, is_key)
        frame.place.inside = frame.places if is_mapping else frame.items
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._stack.append(frame)

    def _end(self) -> None:
        frame = self._stack.pop()
        if frame.anchor is not None:
            self._anchors[frame.anchor] = _Anchored(frame.value, frame.place, frame.size, frame.height)
        if frame.is_key:
            self._stack[-1].key = _DROPPED
        else:
            self._add(frame.value, frame.place, frame.size, frame.height)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            raise _fatal(event, f"the alias '*{event.anchor}' has no anchor '&{event.anchor}' before it")
        target = self._anchors[event.anchor]
        if target is None:
            raise _fatal(event, f"the alias '*{event.anchor}' stands inside of what it repeats")
        self._expanded += target.size
        if self._expanded > MAX_EXPANDED:
            raise _fatal(event, f"the aliases of the document expand to more than {MAX_EXPANDED:,} values")
        if len(self._stack) + target.height > MAX_DEPTH:
            raise _fatal(event, f"nested deeper than {MAX_DEPTH} levels")
        if self._expects_key():
            self._problem(event, f"an alias ('*{event.anchor}') cannot be a key")
            self._stack[-1].key = _DROPPED
            return
        place = _place(event)
        place.inside = target.place.inside
        self._add(target.value, place, target.size, target.height)

    def _expects_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None

    def _key(self, event: Any, place: Place) -> None:
        frame = self._stack[-1]
        key, places = event.value, frame.places
        match = _SCALAR.fullmatch(key) if event.implicit[0] else None
        if event.implicit[0] and key == "<<":
            self._problem(event, "merge keys ('<<') are not supported; write the fields out")
        elif match is not None:
            self._problem(event, f"keys must be texts; put {key!r} in quotes" if key else "a key is missing")
        elif event.tag not in (None, "!", _CORE + "str"):
            self._problem(event, f"the tag {_short(event.tag)!r} is not allowed")
        elif (first := places.get(key)) is not None:
            self._problem(event, f"duplicate key {key!r} (first on line {first.line})", key)
        else:
            if event.anchor is not None:
                self._anchors[event.anchor] = _Anchored(key, place, 1, 0)
            places[key] = place
            frame.key, frame.key_place = key, place
            return
        frame.key = _DROPPED

    def _add(self, value: Any, place: Place, size: int, height: int) -> None:
        if not self._stack:
            self.root = _Anchored(value, place, size, height)
            return
        frame = self._stack[-1]
        frame.size += size
        frame.height = max(frame.height, height + 1)
        if isinstance(frame.value, list):
            frame.items.append(place)
            frame.value.append(value)
            return
        if isinstance(frame.key, str) and frame.key_place is not None:
            frame.value[frame.key] = value
            frame.key_place.inside = place.inside
        frame.key = frame.key_place = None

    def _resolve(self, event: Any) -> Any:
        tag: str | None = event.tag
        if tag in ("!", _CORE + "str") or (tag is None and not event.implicit[0]):
            return event.value
        match = _SCALAR.fullmatch(event.value)
        group = match.lastgroup if match is not None else None
        if tag is not None:
            kind = tag.removeprefix(_CORE)
            if kind not in _KINDS or not tag.startswith(_CORE):
                return self._problem(event, f"the tag {_short(tag)!r} is not allowed")
            if group not in _KINDS[kind]:
                return self._problem(event, f"{event.value!r} does not fit its tag {_short(tag)!r}")
            group = "float" if kind == "float" and group == "int" else group
        if group is None or match is None:
            return event.value
        return self._value(event, group, match[0] if group == "float" else match[group])

    def _value(self, event: Any, group: str, digits: str) -> Any:
        match group:
            case "null":
                return None
            case "true" | "false":
                return group == "true"
            case "float" if math.isfinite(number := float(digits)):
                return number
            case "float" | "odd":
                return self._problem(event, f"{event.value} is not a number that JSON can hold")
        if len(digits.lstrip("+-0")) <= 64:
            integer = int(digits, {"int": 10, "oct": 8, "hex": 16}[group])
            if integer in INTEGER_RANGE:
                return integer
        return self._problem(event, "the integer does not fit into 64 bits; put it in quotes to keep it as text")

    def _problem(self, event: Any, message: str, *path: str) -> None:
        if len(self.problems) >= _MAX_PROBLEMS:
            return
        mark = event.start_mark
        where = format_path((*self._path(), *path))
        self.problems.append(Problem(line=mark.line + 1, column=mark.column + 1, path=where, message=message))

    def _path(self) -> Path:
        steps: list[str | int] = []
        for frame in self._stack:
            if isinstance(frame.value, list):
                steps.append(len(frame.value))
            elif isinstance(frame.key, str):
                steps.append(frame.key)
            else:
                break
        return tuple(steps)


def _place(event: Any) -> Place:
    mark = event.start_mark
    return Place(mark.line + 1, mark.column + 1)


def _fatal(event: Any, message: str) -> FatalError:
    return FatalError(message, line=event.start_mark.line + 1, column=event.start_mark.column + 1)


def _short(tag: str) -> str:
    return "!!" + tag.removeprefix(_CORE) if tag.startswith(_CORE) else tag


def _container_key(event: Any, frame: _Frame) -> str:
    if event.flow_style and isinstance(event, yaml.MappingStartEvent) and not frame.value:
        return 'a text that begins with {{ must be put in quotes: "{{ … }}"'
    kind = "mapping" if isinstance(event, yaml.MappingStartEvent) else "list"
    return f"keys must be texts, not a {kind}"


def _syntax_error(exc: yaml.MarkedYAMLError, text: str) -> FatalError:
    mark = exc.problem_mark or exc.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
    source = text.split("\n")[line - 1] if 0 < line <= text.count("\n") + 1 else ""
    problem = exc.problem or "it cannot be parsed"
    if source[column - 1 : column] == "\t" and "cannot start any token" in problem:
        return FatalError("not valid YAML: a tab cannot indent a line; use spaces", line=line, column=column)
    context = f" {exc.context}" if exc.context else ""
    hint = ""
    if "{{" in source:
        hint = "; a text that begins with {{ must be put in quotes"
    elif problem.startswith("mapping values are not allowed"):
        hint = "; a text with ': ' in it must be put in quotes"
    elif "expected ',' or" in problem and "flow" in context:
        hint = "; put code and texts with { } [ ] or , in quotes, or write them as a block with |"
    return FatalError(f"not valid YAML: {problem}{context}{hint}", line=line, column=column)
