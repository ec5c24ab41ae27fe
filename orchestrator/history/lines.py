"""The form of an exported journal: JSON lines, the first one about the execution, then one for each fact.

::

    {"format": "dagengine-journal/1", "execution": "01jb…", "workflow": "hello", …, "document": {…}}
    {"seq": 1, "epoch": 1, "fact": {"type": "ExecutionStarted", …}}
    {"seq": 2, "epoch": 1, "fact": {"type": "NodeStarted", …}}

Facts are the bytes that were committed, large values in their place; the document is in its canonical form. So a file
needs nothing else to be understood. Members that a release does not know are passed over: later releases may add some.
What cannot be understood without them gets another format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

import msgspec
import orjson

from dagengine.errors import SpecError
from dagengine.events import facts
from dagengine.spec import document as documents
from dagengine.spec import json_text
from dagengine.spec.model import Document
from dagengine.spec.path import Path, parse_path
from dagengine.spec.source import FatalError
from orchestrator.errors import RequestError
from orchestrator.reports import FORMAT, JournalHeader
from orchestrator.verbs import FactView

__all__ = ["History", "encode", "read"]

T = TypeVar("T")

_header: Final = msgspec.json.Decoder(JournalHeader)
_line: Final = msgspec.json.Decoder(FactView)
_FAMILY: Final = FORMAT.partition("/")[0] + "/"


class History(msgspec.Struct, frozen=True, kw_only=True):
    """A journal as it was read. `entries[0]` is the second line of the file; `facts` are those of the entries."""

    header: JournalHeader
    document: Document
    entries: list[FactView]
    facts: list[facts.Fact]


def encode(part: JournalHeader | FactView) -> bytes:
    """One line, its end included."""
    return msgspec.json.encode(part) + b"\n"


def read(lines: Iterable[bytes], *, name: str) -> History:
    """The journal in a file that is called `name`. Raises RequestError that tells line and column of what is wrong."""
    found = _Lines(lines, name)
    header = found.header()
    try:
        document = documents.from_canonical(bytes(header.document))
    except SpecError as exc:
        raise found.wrong(("document",), "this is not the document of a workflow") from exc
    entries, made = [], []
    for entry, fact in found.entries():
        entries.append(entry)
        made.append(fact)
    return History(header=header, document=document, entries=entries, facts=made)


class _Lines:
    """The lines of a file, the current one kept for what there is to say about it."""

    def __init__(self, lines: Iterable[bytes], name: str) -> None:
        self._lines = iter(lines)
        self._name = name
        self._number = 0
        self._line = b""

    def header(self) -> JournalHeader:
        """What the first line says."""
        if not self._next():
            raise self.wrong((), "the file is empty: a journal begins with a line about its execution")
        plain = self._plain()
        form = plain.get("format") if isinstance(plain, dict) else None
        if not isinstance(form, str) or not form.startswith(_FAMILY):
            raise self.wrong((), f'this is not an exported journal: its first line has to say "format": "{FORMAT}"')
        if form != FORMAT:
            raise self.wrong(("format",), f"the format {form!r} is of another release: this one reads {FORMAT!r}")
        return self._decoded(_header, self._line)

    def entries(self) -> Iterator[tuple[FactView, facts.Fact]]:
        """What the other lines say."""
        while self._next():
            self._plain()
            entry = self._decoded(_line, self._line)
            yield entry, self._fact(bytes(entry.fact))

    def wrong(self, path: Path, message: str) -> RequestError:
        """What is wrong with the current line, at a path in it."""
        return self._at(self._column(path), message)

    def _next(self) -> bool:
        line = next(self._lines, None)
        if line is None:
            return False
        self._number += 1
        self._line = line.rstrip(b"\r\n")
        if not self._line and any(rest.strip() for rest in self._lines):
            raise self._at(1, "an empty line in the middle of a journal")
        return bool(self._line)

    def _plain(self) -> Any:
        try:
            return orjson.loads(self._line)
        except orjson.JSONDecodeError as exc:
            raise self._at(exc.colno, f"this is not JSON: {exc.msg}") from exc

    def _fact(self, payload: bytes) -> facts.Fact:
        try:
            return facts.decode(payload)
        except msgspec.ValidationError as exc:
            path, message = _told(exc)
            raise self.wrong(("fact", *path), f"this is no fact that this release knows: {message}") from exc

    def _decoded(self, decoder: msgspec.json.Decoder[T], line: bytes) -> T:
        try:
            return decoder.decode(line)
        except msgspec.ValidationError as exc:
            path, message = _told(exc)
            raise self.wrong(path, message) from exc

    def _column(self, path: Path) -> int:
        try:
            return json_text.parse(self._line.decode()).locate(path)[1]
        except FatalError:  # beyond what documents may be: nested too deeply, say
            return 1

    def _at(self, column: int, message: str) -> RequestError:
        return RequestError(f"{self._name}:{max(1, self._number)}:{column}: {message}")


def _told(exc: msgspec.ValidationError) -> tuple[Path, str]:
    """Where in a value something is wrong, and what."""
    message, _, where = str(exc).partition(" - at `$")
    found = re.fullmatch(r"\.?(.*)`", where)
    return (parse_path(found[1]) if found is not None and found[1] else ()), message
