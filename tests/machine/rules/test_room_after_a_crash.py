"""Pure attempts that were running when everything was lost run again when there is room for them, not at once."""

from __future__ import annotations

from dagengine.machine.operations import Pause
from dagengine.machine.stimuli import Admitted


def test_they_ask_for_room_first_and_go_on_as_the_same_attempt(hand) -> None:
    it = hand([{"id": "a", "pool": "db"}, {"id": "b", "pool": "db"}])
    it.begin()
    it.handle(Admitted(at=it.now, node=0, index=-1, attempt=1))
    it.crash()
    assert sorted(it.commands) == ["admit a 1", "admit b 1"]
    assert it.handle(Admitted(at=it.now, node=0, index=-1, attempt=1)) == []
    assert it.commands == ["run a 1"]
    assert it.phase("a") == "running"


def test_a_pause_leaves_them_their_place(hand) -> None:
    it = hand([{"id": "a", "pool": "db"}])
    it.begin()
    it.handle(Admitted(at=it.now, node=0, index=-1, attempt=1))
    it.crash()
    it.operate(Pause())
    it.handle(Admitted(at=it.now, node=0, index=-1, attempt=1))
    assert it.commands == ["run a 1"]
