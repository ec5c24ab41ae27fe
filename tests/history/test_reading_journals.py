"""Files that are no journals, or not quite: what is said about them, and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from orchestrator.errors import RequestError
from orchestrator.history import lines

JOURNAL = Path(__file__).parents[1] / "histories" / "example-hello.jsonl"


def _read(content: bytes) -> lines.History:
    return lines.read(content.splitlines(keepends=True), name="h.jsonl")


def _changed(number: int, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The journal with another line; the first one has the number 1."""
    rows = JOURNAL.read_bytes().splitlines()
    plain = json.loads(rows[number - 1])
    change(plain)
    rows[number - 1] = json.dumps(plain, separators=(",", ":")).encode()
    return b"\n".join(rows)


def test_what_is_written_is_what_was_read() -> None:
    content = JOURNAL.read_bytes()
    history = _read(content)
    assert b"".join(map(lines.encode, [history.header, *history.entries])) == content


def test_blank_lines_at_the_end_do_no_harm() -> None:
    assert len(_read(JOURNAL.read_bytes() + b"\n\n").facts) == _read(JOURNAL.read_bytes()).header.last_seq


def test_members_that_are_not_known_are_passed_over() -> None:
    content = _changed(1, lambda header: header.update(later="more"))
    assert _read(content).header.workflow == "hello"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "h.jsonl:1:1: the file is empty: a journal begins with a line about its execution"),
        (b"\x7fELF\n", "h.jsonl:1:1: this is not JSON: "),
        (b'["a"]\n', 'h.jsonl:1:1: this is not an exported journal: its first line has to say "format": '),
        (b'{"format": "dagengine-journal/9"}', "h.jsonl:1:2: the format 'dagengine-journal/9' is of another release"),
        (
            b'{"format": "dagengine-journal/1"}',
            "h.jsonl:1:1: Object missing required field `release`",
        ),
        (JOURNAL.read_bytes() + b'{"seq": 9,, "epoch": 1}', "h.jsonl:10:11: this is not JSON: "),
        (JOURNAL.read_bytes() + b"\n\n{}", "h.jsonl:10:1: an empty line in the middle of a journal"),
        (
            _changed(3, lambda entry: entry.update(seq="two")),
            "h.jsonl:3:2: Expected `int`, got `str`",
        ),
        (
            _changed(3, lambda entry: entry["fact"].update(type="NodeExploded")),
            "h.jsonl:3:28: this is no fact that this release knows: Invalid value 'NodeExploded'",
        ),
        (
            _changed(1, lambda header: header["document"].update(spec=5)),
            "h.jsonl:1:",
        ),
    ],
    ids=["empty", "binary", "list", "format", "header", "json", "gap", "seq", "fact", "document"],
)
def test_it_is_told_where_a_file_is_wrong(content: bytes, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        _read(content)
    assert str(caught.value).startswith(said)


def test_the_raw_document_is_what_was_exported() -> None:
    history = _read(JOURNAL.read_bytes())
    assert msgspec.json.decode(history.header.document) == history.document.to_dict()
