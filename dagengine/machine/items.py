"""The items of one node with `foreach`. Part of `state`, which makes and changes them."""

from __future__ import annotations

import msgspec

from dagengine.events.facts import NodeExpanded

__all__ = ["Items"]

_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class Items:
    """The items of one node with `foreach`: parallel arrays indexed by item, so that an item costs bytes."""

    __slots__ = ("attempt", "failed", "first_failed", "phase", "results", "unfinished", "values")

    def __init__(self, values: list[msgspec.Raw]) -> None:
        count = len(values)
        self.values = values
        self.phase = bytearray(count)
        self.attempt = [0] * count
        self.results: list[bytes | None] = [None] * count
        self.unfinished = count
        self.failed = 0
        self.first_failed = -1

    @classmethod
    def of(cls, fact: NodeExpanded) -> Items:
        """The items that a node was expanded to. ValueError when `items` is no list of `count` values."""
        try:
            values = _decoder.decode(fact.items)
        except msgspec.DecodeError as error:
            raise ValueError(f"its items are no list: {error}") from error
        if len(values) != fact.count:
            raise ValueError(f"its count is {fact.count}, but it holds {len(values)} items")
        return cls(values)

    def snapshot(self) -> tuple[object, ...]:
        """Everything, comparable."""
        values = [bytes(value) for value in self.values]
        return (
            values,
            bytes(self.phase),
            list(self.attempt),
            list(self.results),
            self.unfinished,
            self.failed,
            self.first_failed,
        )
