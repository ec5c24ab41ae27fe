"""Pools as operators declare them: `db=4,api=2:10/s` is a pool of size 4, and one of size 2 in which 10 a second begin.

Read by the settings of engines (`ENGINE_POOLS`, per engine) and orchestrators (`POOLS`, over the whole system), and by
whoever embeds either and prefers a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from dagengine.admission.pools import Pool
from dagengine.spec.rate import Rate, parse_rate

__all__ = ["Declared", "parse", "read"]

_POOL: Final = re.compile(r"([a-zA-Z0-9_-]{1,128})\s*=\s*([0-9]{1,9})\s*(?::(.*))?")


class Declared(msgspec.Struct, frozen=True, gc=False):
    """How much room a pool has, and how often something may begin in it (None: as often as there is room)."""

    size: int
    rate: Rate | None = None

    def __str__(self) -> str:
        return str(self.size) if self.rate is None else f"{self.size}:{self.rate}"

    def pool(self, name: str) -> Pool:
        """A machine for a pool declared like this."""
        return Pool(name, self.size, rate=self.rate)


def parse(text: str) -> dict[str, Declared]:
    """The pools that a text declares, by name. Raises ValueError that says what is wrong with which."""
    pools: dict[str, Declared] = {}
    for item in filter(None, map(str.strip, text.split(","))):
        found = _POOL.fullmatch(item)
        if found is None:
            raise ValueError(f"'{item}' is no pool: write name=size or name=size:rate, such as db=4 or api=2:10/s")
        if found[1] in pools:
            raise ValueError(f"the pool '{found[1]}' is given twice")
        pools[found[1]] = Declared(int(found[2]), None if found[3] is None else parse_rate(found[3]))
    return pools


def read(value: object) -> dict[str, Declared]:
    """The pools in a setting: a text, or a mapping of names to sizes (`{db: 4, api: "2:10/s"}`), as files hold it."""
    if isinstance(value, str):
        return parse(value)
    if not isinstance(value, Mapping):
        raise ValueError("expected pools such as db=4,api=2:10/s, or a mapping of names to sizes")
    pools: dict[str, Declared] = {}
    for name, size in value.items():
        if isinstance(size, Declared):
            pools[name] = size
        elif isinstance(size, (int, str)) and not isinstance(size, bool) and "," not in str(size):
            pools |= parse(f"{name}={size}")
        else:
            raise ValueError(f"the size of pool '{name}' is {size!r}: write a number, or size:rate such as 2:10/s")
    return pools
