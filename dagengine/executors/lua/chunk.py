"""A piece of Lua code, compiled for one runtime, and what it may read of its scope.

Only what code may read is converted for a call. That is decided by its words, on the safe side: code that mentions
`_ENV` or `_G` gets everything, and code that uses `nodes` in a way that only running can tell gets every ancestor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from dagengine.spec import expression

__all__ = ["MOST_NAMED_NODES", "Chunk", "Reads", "reads"]

_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Words of texts and comments count, too: that converts now and then what nobody reads, and never too little."""

MOST_NAMED_NODES = 100
"""Code that names more nodes than this is given all of them in one table: a Lua call takes few arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What code may read. `nodes` are node ids in the order of a call's arguments, None for every ancestor."""

    inputs: bool = False
    env: bool = False
    item: bool = False
    index: bool = False
    randomness: bool = False
    time: bool = False
    globals: bool = False
    nodes: tuple[str, ...] | None = ()

    @property
    def nothing(self) -> bool:
        """Whether the code can be called without any of its scope."""
        return self == _NOTHING


_NOTHING = Reads()


class Chunk(NamedTuple):
    """Compiled code: `call` takes what `reads` says (see `sandbox.lua`)."""

    call: Callable[..., Any]
    reads: Reads
    bare: bool


def reads(codes: Iterable[str]) -> Reads:
    """What the pieces of code `codes` may read, together."""
    names: set[str] = set()
    nodes: set[str] = set()
    dynamic = everything = False
    for given in codes:
        code = given.replace("\r\n", "\n")
        # Where Lua's lexer and ours may part, nothing that was seen can be relied on.
        everything = everything or "\\z" in code or "\r" in code
        names.update(_WORD.findall(code))
        found = expression.references(code)
        nodes |= found.nodes
        dynamic = dynamic or found.dynamic_nodes
    everything = everything or "_ENV" in names or "_G" in names
    dynamic = dynamic or everything or len(nodes) > MOST_NAMED_NODES
    return Reads(
        inputs=everything or "inputs" in names,
        env=everything or "env" in names,
        item=everything or "item" in names,
        index=everything or "index" in names,
        randomness=everything or "math" in names,
        time=everything or "os" in names,
        globals="_G" in names,
        nodes=None if dynamic else tuple(sorted(nodes)),
    )
