"""A piece of Lua code, compiled for one runtime, and what it may read of its scope.

Only what code may read is converted for a call. That is decided by its words, on the safe side: code that mentions
`_ENV` or `_G` gets everything, and code that uses `nodes` in a way that only running can tell gets each ancestor when
it reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from dagengine.spec import expression

__all__ = ["EVERYTHING", "MOST_NAMED_NODES", "Chunk", "Reads", "reads"]

_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""Words of texts and comments count, too: that converts now and then what nobody reads, and never too little."""

MOST_NAMED_NODES = 100
"""Code that names more nodes than this gets them as it reads them: a Lua call takes few arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What code may read. `nodes` are node ids in the order of a call's arguments, None for any ancestor.

    With `modules` it may `require` them: they read nothing of the scope, but may want randomness and the time.
    """

    inputs: bool = False
    env: bool = False
    item: bool = False
    index: bool = False
    key: bool = False
    execution: bool = False
    modules: bool = False
    randomness: bool = False
    time: bool = False
    globals: bool = False
    nodes: tuple[str, ...] | None = ()

    @property
    def nothing(self) -> bool:
        """Whether the code can be called without any of its scope."""
        return self == _NOTHING


_NOTHING: Final = Reads()

EVERYTHING: Final = Reads(
    inputs=True,
    env=True,
    item=True,
    index=True,
    key=True,
    execution=True,
    modules=True,
    randomness=True,
    time=True,
    globals=True,
    nodes=None,
)
"""What code reads of which nothing is known."""


class Chunk(NamedTuple):
    """Compiled code: `call` takes what `reads` says (see `sandbox.lua`). `code` is the script's, if it is one."""

    call: Callable[..., Any]
    reads: Reads
    bare: bool
    code: str = ""


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
    modules = everything or "require" in names
    return Reads(
        inputs=everything or "inputs" in names,
        env=everything or "env" in names,
        item=everything or "item" in names,
        index=everything or "index" in names,
        key=everything or "key" in names,
        execution=everything or "execution" in names,
        modules=modules,
        randomness=modules or "math" in names,
        time=modules or "os" in names or "time" in names,
        globals="_G" in names,
        nodes=None if dynamic else tuple(sorted(nodes)),
    )
