"""How much work there is for the engines of one workload, and what each of them may have."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.dispatcher.demand import Demand, EngineLoad
from orchestrator.dispatcher.placement import ANYWHERE, Candidate, Needs
from orchestrator.scaling import load

OURS = {"10.0.0.1:1", "10.0.0.2:1"}
GPU = frozenset({("pool", "gpu")})


def engine(name: str, address: str, executions: int = 0, **more: Any) -> EngineLoad:
    labels = more.pop("labels", frozenset())
    candidate = Candidate(engine=name, capacity=10, state="ready", executors=frozenset({"lua"}), labels=labels)
    given: dict[str, Any] = {"connected": True, "candidate": candidate} | more
    return EngineLoad(engine=name, address=address, executions=executions, **given)


def demand(*engines: EngineLoad, **waiting: int) -> Demand:
    needs = {
        "any": ANYWHERE,
        "gpu": Needs(labels=GPU),
        "alone": Needs(exclusive=True),
        "wasm": Needs(executors=frozenset({"wasm"})),
    }
    return Demand(engines={each.engine: each for each in engines}, waiting={needs[k]: v for k, v in waiting.items()})


def measured(found: Demand) -> load.Load:
    return load.measure(found, OURS, load.offers(found, OURS))


def test_engines_of_others_are_left_out() -> None:
    found = measured(demand(engine("a", "10.0.0.1:1", 3), engine("other", "10.0.0.9:1", 50)))
    assert (found.running, found.waiting, found.room) == (3, 0, 10)


def test_what_lost_engines_had_will_come_again() -> None:
    found = measured(demand(engine("a", "10.0.0.1:1", 3), engine("lost", "", 4, connected=False, candidate=None)))
    assert found.running == 7


def test_what_waits_counts_where_these_engines_could_run_it() -> None:
    found = measured(demand(engine("a", "10.0.0.1:1"), any=2, gpu=3, wasm=5, alone=1))
    assert (found.waiting, found.elsewhere, found.exclusive) == (3, 8, 1)
    found = measured(demand(engine("a", "10.0.0.1:1", labels=GPU), any=2, gpu=3))
    assert (found.waiting, found.elsewhere) == (5, 0)


def test_anything_may_be_for_engines_of_which_none_was_ever_seen() -> None:
    found = measured(demand(engine("other", "10.0.0.9:1"), any=2, gpu=3))
    assert (found.waiting, found.elsewhere) == (5, 0)


@pytest.mark.parametrize(
    ("given", "engines"),
    [
        ({}, 0),
        ({"running": 1}, 1),
        ({"running": 8}, 1),
        ({"running": 8, "waiting": 1}, 2),
        ({"waiting": 3, "exclusive": 3}, 3),
        ({"running": 2, "waiting": 3, "exclusive": 3}, 4),
    ],
    ids=["nothing", "one", "full", "one more", "exclusive", "both"],
)
def test_engines_are_counted_by_the_target(given: dict[str, int], engines: int) -> None:
    assert load.Load(**given).engines(8) == engines


def executions(found: Demand, address: str, *, draining: bool = False) -> int | None:
    by_address = {each.address: each for each in found.engines.values()}
    return load.executions_of(found, address, by_address=by_address, draining=draining)


def test_an_engine_has_what_it_says() -> None:
    assert executions(demand(engine("a", "10.0.0.1:1", 3)), "10.0.0.1:1") == 3


def test_of_one_that_is_marked_nobody_can_tell_before_it_is_passed_over() -> None:
    assert executions(demand(engine("a", "10.0.0.1:1")), "10.0.0.1:1", draining=True) is None
    assert executions(demand(engine("a", "10.0.0.1:1", draining=True)), "10.0.0.1:1", draining=True) == 0


def test_a_pod_without_a_session_has_nothing_unless_something_is_missing() -> None:
    assert executions(demand(engine("a", "10.0.0.1:1", 3)), "10.0.0.2:1") == 0
    lost = engine("lost", "", 1, connected=False, candidate=None)
    assert executions(demand(engine("a", "10.0.0.1:1", 3), lost), "10.0.0.2:1") is None
    assert executions(demand(lost), "") is None
