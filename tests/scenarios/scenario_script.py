"""A scenario as text: a title, what it shows, a setting, and what is done, each followed by what came of it.

`read` takes a file apart; `Script.text` puts it together again with other results. Comments and empty lines stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

__all__ = ["Script", "read"]

_DO = "> "


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """`workflows` holds a `spec` by name (the empty text for the one without); `setting` the lines `word: value`.

    `head` are the lines before the first thing that is done. Each of `scenes` is what is done, the results that were
    recorded, and the lines that stand after them (empty ones, comments).
    """

    title: str
    workflows: dict[str, dict[str, Any]]
    setting: dict[str, str]
    head: tuple[str, ...]
    scenes: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]

    def text(self, results: Sequence[Sequence[str]]) -> str:
        """The scenario with `results` in place of those that were recorded."""
        lines = [*self.head]
        for (done, _, after), result in zip(self.scenes, results, strict=True):
            lines += [_DO + done, *result, *after]
        return "\n".join(lines) + "\n"


def read(text: str) -> Script:
    """Raises ValueError when the text is no scenario."""
    lines = text.splitlines()
    first = next((at for at, line in enumerate(lines) if line.startswith(_DO)), len(lines))
    head = lines[:first]
    if not head or not head[0].startswith("# "):
        raise ValueError("a scenario begins with '# ' and a title")
    scenes = tuple(_scenes(lines[first:]))
    if not scenes:
        raise ValueError("nothing is done in this scenario: write lines that begin with '> '")
    return Script(
        title=head[0].removeprefix("# "),
        workflows=dict(_workflows(head)),
        setting=dict(_setting(head)),
        head=tuple(head),
        scenes=scenes,
    )


def _workflows(head: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The indented blocks after `workflow` or `workflow NAME`."""
    at = 0
    while at < len(head):
        words = head[at].split()
        at += 1
        if words[:1] != ["workflow"] or len(words) > 2 or head[at - 1].startswith(" "):
            continue
        block = []
        while at < len(head) and (head[at].startswith("  ") or not head[at].strip()):
            block.append(head[at])
            at += 1
        yield words[1] if words[1:] else "", yaml.safe_load("\n".join(block))


def _setting(head: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in head:
        word, colon, value = line.partition(": ")
        if colon and word in ("pools", "shared pools", "journal"):
            yield word, value


def _scenes(lines: Sequence[str]) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    done, results, after = "", [], []
    for line in lines:
        if line.startswith(_DO):
            if done:
                yield done, tuple(results), tuple(after)
            done, results, after = line.removeprefix(_DO), [], []
        elif not line.strip() or line.startswith("#") or after:
            after.append(line)
        else:
            results.append(line)
    if done:
        yield done, tuple(results), tuple(after)
