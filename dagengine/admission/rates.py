"""The rate machine: who may begin next, so that no more begin in any span of time than a rate allows.

Things that share a key share a rate and wait in one line (`line.rank`). `handle(stimulus)` answers with the tickets
whose turn has come, in order. A turn is not a begin yet: whoever has it may still have to wait for room in a pool. It
counts when it begins (`Began`), and its turn goes to the next one when it does not (`Withdrawn`).
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, assert_never

import msgspec

from dagengine.admission.line import Line, rank
from dagengine.admission.window import Window
from dagengine.spec.rate import Rate

__all__ = ["Asked", "Began", "Rates", "Stimulus", "TimePassed", "Withdrawn"]

_TIDY_EVERY: Final = 1_024
"""Stimuli between two looks for keys that nothing is remembered of any more."""


class Asked(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Somebody wants to begin, under `key`. The rate that came last is the one of the key."""

    at: int
    ticket: Hashable
    key: str
    rate: Rate
    priority: int = 0


class Began(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Somebody whose turn it was has begun. Who had no turn is ignored."""

    at: int
    ticket: Hashable


class Withdrawn(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Some of those who asked will not begin, whether it is their turn or not."""

    at: int
    tickets: tuple[Hashable, ...]


class TimePassed(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """It is now `at`."""

    at: int


Stimulus = Asked | Began | Withdrawn | TimePassed


class _Key:
    """What is known of one key. `turns` counts those whose turn it is, and who have not begun."""

    __slots__ = ("line", "turns", "window")

    def __init__(self, rate: Rate) -> None:
        self.window = Window(rate)
        self.line: Line[Hashable] = Line()
        self.turns = 0

    def next(self, at: int) -> Hashable | None:
        """The ticket whose turn has come by `at`, or None."""
        if not self.line or self.window.room(at) <= self.turns:
            return None
        ticket = self.line.first
        self.line.remove(ticket)
        self.turns += 1
        return ticket

    def wake_at(self, at: int) -> int | None:
        """When the next turn comes by itself."""
        if not self.line or self.turns >= self.window.rate.count:
            return None
        return self.window.next_at(at, ahead=self.turns)


class Rates:
    """All keys. `wake_at` is as of the last stimulus."""

    def __init__(self) -> None:
        self._keys: dict[str, _Key] = {}
        self._key_of: dict[Hashable, _Key] = {}
        self._with_turn: set[Hashable] = set()
        self._crowded: set[_Key] = set()
        """The keys in whose line somebody waits."""
        self._at = 0
        self._until_tidy = _TIDY_EVERY

    def __len__(self) -> int:
        """Keys that something is remembered of."""
        return len(self._keys)

    @property
    def wake_at(self) -> int | None:
        """When it wants to hear that time has passed; None when only others' stimuli can change anything."""
        times = (key.wake_at(self._at) for key in self._crowded)
        return min((at for at in times if at is not None), default=None)

    def handle(self, stimulus: Stimulus) -> list[Hashable]:
        """Take a stimulus in; the tickets whose turn it is now, in order."""
        at = self._at = max(self._at, stimulus.at)
        self._tidy()
        match stimulus:
            case Asked():
                return self._advance([self._ask(stimulus)], at)
            case Began():
                return self._advance(self._begin(stimulus.ticket, at), at)
            case Withdrawn():
                return self._advance([key for ticket in stimulus.tickets for key in self._leave(ticket)], at)
            case TimePassed():
                return self._advance(list(self._crowded), at)
            case _:
                assert_never(stimulus)

    def _ask(self, asked: Asked) -> _Key:
        key = self._keys.get(asked.key)
        if key is None:
            key = self._keys[asked.key] = _Key(asked.rate)
        key.window.rate = asked.rate
        if asked.ticket not in self._key_of:
            self._key_of[asked.ticket] = key
            key.line.put(asked.ticket, rank(asked.at, asked.priority))
            self._crowded.add(key)
        return key

    def _begin(self, ticket: Hashable, at: int) -> list[_Key]:
        if ticket not in self._with_turn:
            return []
        self._with_turn.discard(ticket)
        key = self._key_of.pop(ticket)
        key.turns -= 1
        key.window.add(at)
        return [key]

    def _leave(self, ticket: Hashable) -> list[_Key]:
        key = self._key_of.pop(ticket, None)
        if key is None:
            return []
        if ticket in self._with_turn:
            self._with_turn.discard(ticket)
            key.turns -= 1
        else:
            key.line.remove(ticket)
        return [key]

    def _advance(self, keys: list[_Key], at: int) -> list[Hashable]:
        turns: list[Hashable] = []
        for key in keys:
            while (ticket := key.next(at)) is not None:
                turns.append(ticket)
            if not key.line:
                self._crowded.discard(key)
        self._with_turn.update(turns)
        return turns

    def _tidy(self) -> None:
        self._until_tidy -= 1
        if self._until_tidy > 0:
            return
        self._until_tidy = _TIDY_EVERY
        for name, key in list(self._keys.items()):
            if not key.line and not key.turns and key.window.room(self._at) >= key.window.rate.count:
                del self._keys[name]
