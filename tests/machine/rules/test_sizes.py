"""What is too large to be told ends otherwise: every fact fits the messages that carry it."""

from __future__ import annotations

from typing import Any

from dagengine.events import facts
from dagengine.events.facts import ErrorInfo
from dagengine.machine import conclusion
from dagengine.wire import limits

LARGE = b'"%s"' % (b"x" * (4 << 20))


def test_default_outputs_have_a_most(hand: Any) -> None:
    it = hand([{"id": f"n{number}"} for number in range(5)])
    it.begin()
    for number in range(4):
        it.end(f"n{number}", result=LARGE)
    (_, last) = it.end("n4", result=LARGE)
    assert isinstance(last, facts.ExecutionFailed)
    assert last.error.type == "OutputsTooLarge"
    assert "the outputs take 20,971,5" in last.error.message
    assert it.state.status == "failed"


def test_declared_outputs_have_the_same(hand: Any) -> None:
    it = hand([{"id": "a"}], outputs={"x": "{{ nodes.a }}"})
    it.begin()
    it.end("a")
    (last,) = it.evaluated("outputs", value=b'{"x":"%s"}' % (b"x" * (16 << 20)))
    assert last.error.type == "OutputsTooLarge"


def test_what_is_within_the_most_fits_a_message(hand: Any) -> None:
    it = hand([{"id": "a"}], outputs={"x": "{{ nodes.a }}"})
    it.begin()
    it.end("a")
    (last,) = it.evaluated("outputs", value=b'{"x":"%s"}' % (b"x" * (conclusion.MAX_OUTPUTS - 8)))
    assert isinstance(last, facts.ExecutionSucceeded)
    assert len(facts.encode(last)) < limits.MAX_FACT_BYTES


def test_of_an_error_is_kept_what_people_can_read(hand: Any) -> None:
    it = hand([{"id": "a", "foreach": "inputs.list"}])
    it.begin()
    it.evaluated("foreach", "a", b"[1]")
    error = ErrorInfo(type="ValueError", message="m" * 1_000_000, traceback="t" * 1_000_000)
    made = it.end("a", "fail", index=0, error=error)
    assert [type(fact) for fact in made] == [facts.NodeFailed, facts.NodeFailed, facts.ExecutionFailed]
    assert all(len(fact.error.message) <= conclusion.MAX_ERROR_TEXT for fact in made)
    assert len(made[0].error.traceback) == conclusion.MAX_ERROR_TEXT
    assert made[0].error.message.endswith("m… (1,000,000 characters)")
