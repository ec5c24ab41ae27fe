"""The items of one node with `foreach`. Part of `state`, which makes and changes them."""

from __future__ import annotations

import msgspec

from dagengine.events.facts import NodeExpanded
from dagengine.machine.phases import Phase

__all__ = ["Items"]

_values = msgspec.json.Decoder(list[msgspec.Raw])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode
_BRACE = ord("{")


class Items:
    """The items of one node with `foreach`: parallel arrays indexed by item, so that an item costs bytes."""

    __slots__ = ("attempt", "failed", "first_failed", "keys", "phase", "results", "unfinished", "values")

    def __init__(self, values: list[msgspec.Raw], keys: list[str] | None = None, *, attempt: int = 0) -> None:
        count = len(values)
        self.values = values
        self.keys = keys
        """With a `foreach` over a map: the key of each item."""
        self.phase = bytearray(count)
        self.attempt = [attempt] * count
        self.results: list[bytes | None] = [None] * count
        self.unfinished = count
        self.failed = 0
        self.first_failed = -1

    @classmethod
    def of(cls, fact: NodeExpanded, *, attempt: int = 0) -> Items:
        """The items that a node was expanded to; their attempts are counted from `attempt` on.

        ValueError when `items` is neither a list nor an object of `count` values.
        """
        keys: list[str] | None = None
        try:
            if memoryview(fact.items)[0] == _BRACE:
                members = _members.decode(fact.items)
                keys, values = list(members), list(members.values())
            else:
                values = _values.decode(fact.items)
        except msgspec.DecodeError as error:
            raise ValueError(f"its items are neither a list nor an object: {error}") from error
        if len(values) != fact.count:
            raise ValueError(f"its count is {fact.count}, but it holds {len(values)} items")
        return cls(values, keys, attempt=attempt)

    def restart(self) -> None:
        """Let those items begin anew that have not succeeded."""
        for index, phase in enumerate(self.phase):
            if phase != Phase.SUCCEEDED:
                self.phase[index] = Phase.PENDING
        self.unfinished = len(self.phase) - self.phase.count(Phase.SUCCEEDED)
        self.failed = 0
        self.first_failed = -1

    def result(self) -> bytes:
        """The results of all items as JSON: null for one that has none."""
        results = (result or b"null" for result in self.results)
        if self.keys is None:
            return b"[" + b",".join(results) + b"]"
        members = (_encode(key) + b":" + result for key, result in zip(self.keys, results, strict=True))
        return b"{" + b",".join(members) + b"}"

    def snapshot(self) -> tuple[object, ...]:
        """Everything, comparable."""
        values = [bytes(value) for value in self.values]
        return (
            values,
            self.keys,
            bytes(self.phase),
            list(self.attempt),
            list(self.results),
            self.unfinished,
            self.failed,
            self.first_failed,
        )
