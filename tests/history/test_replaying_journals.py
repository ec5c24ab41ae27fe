"""Journals that cannot be true: each is found out, at the fact where it goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dagengine.events import facts
from orchestrator.history import lines
from orchestrator.history.lines import History
from orchestrator.history.replay import replay
from orchestrator.verbs import FactView

HISTORIES = Path(__file__).parents[1] / "histories"
Change = Callable[[History], History]


def _history(name: str = "example-hello") -> History:
    with (HISTORIES / f"{name}.jsonl").open("rb") as source:
        return lines.read(source, name=name)


def _with_facts(history: History, made: list[tuple[int, facts.Fact]]) -> History:
    """The history with other facts, each with its epoch."""
    entries = [
        FactView(seq=seq, epoch=epoch, fact=msgspec.Raw(facts.encode(fact)))
        for seq, (epoch, fact) in enumerate(made, 1)
    ]
    header = msgspec.structs.replace(history.header, last_seq=len(made))
    return msgspec.structs.replace(history, header=header, entries=entries, facts=[fact for _, fact in made])


def _header(**changes: Any) -> Change:
    return lambda history: msgspec.structs.replace(history, header=msgspec.structs.replace(history.header, **changes))


def _entry(at: int, **changes: Any) -> Change:
    def change(history: History) -> History:
        entries = list(history.entries)
        entries[at] = msgspec.structs.replace(entries[at], **changes)
        return msgspec.structs.replace(history, entries=entries)

    return change


def _without(at: int) -> Change:
    return lambda history: _with_facts(history, [(1, fact) for fact in (*history.facts[:at], *history.facts[at + 1 :])])


def _twice(at: int) -> Change:
    return lambda history: _with_facts(history, [(1, fact) for fact in (*history.facts[: at + 1], *history.facts[at:])])


def _earlier(at: int) -> Change:
    def change(history: History) -> History:
        made = [(1, fact) for fact in history.facts]
        made[at] = (1, msgspec.structs.replace(made[at][1], at=0))
        return _with_facts(history, made)

    return change


@pytest.mark.parametrize(
    ("change", "seq", "said"),
    [
        (_header(digest="sha256:0"), 0, "its document has the digest"),
        (_header(version="2.0.0"), 0, "its document is that of hello@1.0.0, not of hello@2.0.0"),
        (_header(execution="another"), 1, "it begins"),
        (_header(status="failed"), 8, "its facts lead to 'succeeded', and it is said to be 'failed'"),
        (_header(last_seq=9), 8, "there are 8 facts, and should be 9"),
        (_entry(3, seq=7), 4, "its position is 7, and should be 4"),
        (_entry(2, epoch=2), 4, "its epoch is 1, after 2"),
        (_without(0), 1, "NodeStarted cannot follow"),
        (_without(1), 3, "is PENDING"),
        (_twice(1), 3, "is RUNNING"),
        (_earlier(4), 5, "lies before"),
    ],
    ids=["digest", "version", "other", "status", "short", "gap", "epoch", "headless", "lost", "doubled", "time"],
)
def test_it_is_found_out(change: Change, seq: int, said: str) -> None:
    result = replay(change(_history()))
    assert result.problem is not None
    assert result.problem.seq == seq
    assert said in result.problem.message
    assert result.folded == (seq if seq == 8 else max(0, seq - 1))


def test_a_state_that_no_machine_leads_to_is_found_out_by_its_invariants() -> None:
    """A node with more failures than its policy allows: each fact by itself could follow."""
    history = _history("retry-until-no-attempt-is-left")
    made: list[tuple[int, facts.Fact]] = []
    for fact in history.facts:
        if isinstance(fact, facts.NodeFailed) and fact.retry_at is None:
            again = msgspec.structs.replace(fact, retry_at=fact.at)
            start = next(one for one in reversed(history.facts) if isinstance(one, facts.NodeStarted))
            made += [(1, again), (1, msgspec.structs.replace(start, at=fact.at, attempt=fact.attempt + 1))]
            made.append((1, msgspec.structs.replace(fact, attempt=fact.attempt + 1)))
        else:
            made.append((1, fact))
    problem = replay(_with_facts(history, made)).problem
    assert problem is not None
    assert "no more often than allowed" in problem.message


def test_a_journal_that_ends_anywhere_could_have_gone_on_from_there() -> None:
    history = _history("engine-killed")
    for count in range(1, len(history.facts)):
        part = _header(status="running", last_seq=count)(history)
        part = msgspec.structs.replace(part, entries=part.entries[:count], facts=part.facts[:count])
        assert replay(part).problem is None


def test_a_journal_that_is_too_large_is_checked_here_and_there_and_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = _history("example-trace")
    monkeypatch.setattr("orchestrator.history.replay._BUDGET", 2_000)
    result = replay(history)
    assert result.folded == len(history.facts)
    assert 2 <= result.checked < result.folded
    assert replay(_header(status="failed")(history)).problem is not None


def test_how_often_it_is_checked_can_be_said() -> None:
    history = _history("example-trace")
    total = len(history.facts)
    assert replay(history).checked == total
    assert replay(history, every=50).checked == total // 50 + bool(total % 50)
    assert replay(history, every=10_000).checked == 1
