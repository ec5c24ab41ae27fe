"""Signals that nobody waits for are kept, but not without end."""

from __future__ import annotations

from msgspec import Raw

from dagengine.events import facts
from dagengine.machine.operating import MOST_SIGNALS
from dagengine.machine.operations import Signal


def test_more_than_can_be_kept_are_refused_until_some_are_taken(hand) -> None:
    wait = {"type": "wait", "signal": {"name": "go"}}
    it = hand([{"id": "a"}, {"id": "hold", "dependencies": ["a"], "executor": wait}])
    it.begin()
    for number in range(MOST_SIGNALS):
        (kept,) = it.operate(Signal(name="go", payload=Raw(b"%d" % number)), f"c-{number}")
        assert isinstance(kept, facts.Signalled)
    (refused,) = it.operate(Signal(name="go", payload=Raw(b"1")), "one-more")
    assert isinstance(refused, facts.CommandRefused)
    assert refused.why == "1,000 signals 'go' are kept already, and nobody has taken them"
    it.end("a")
    assert it.state.result(it.position("hold")) == b"0"
