"""Facts become JSON once and come back as they were."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagengine.events import facts

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).map(lambda value: msgspec.Raw(msgspec.json.encode(value)))
node = st.text("abc-_", min_size=1, max_size=8)
index = st.none() | st.integers(0, 10**6)
attempt = st.integers(1, 100)
at = st.integers(0, 2**60)
error = st.builds(facts.ErrorInfo, type=st.text(), message=st.text(), line=st.integers(0, 99), traceback=st.text())

asked = {"author": st.text(), "reason": st.text(), "command": st.text()}

STRATEGIES = {
    facts.ExecutionStarted: {
        "execution": st.text(),
        "workflow": node,
        "version": st.just("1.0.0"),
        "digest": st.text(),
        "inputs": values,
    },
    facts.NodeExpanded: {"node": node, "count": st.integers(0, 10**6), "items": values},
    facts.NodeStarted: {"node": node, "index": index, "attempt": attempt, "args": values | st.just(msgspec.UNSET)},
    facts.NodeSucceeded: {"node": node, "index": index, "result": values | st.just(msgspec.UNSET)},
    facts.NodeFailed: {
        "node": node,
        "index": index,
        "attempt": st.integers(0, 9),
        "conclusion": st.sampled_from(["fail", "error"]),
        "error": error,
        "retry_at": st.none() | at,
    },
    facts.NodeSkipped: {
        "node": node,
        "reason": st.sampled_from(get_args(facts.SkipReason)),
        "because": st.lists(node).map(tuple),
    },
    facts.NodeCancelled: {"node": node, "attempt": attempt, "reason": st.sampled_from(get_args(facts.CancelReason))},
    facts.NodeQueued: {"node": node, "index": index, "pool": st.text(), "rate": st.text()},
    facts.NodeWaiting: {
        "node": node,
        "index": index,
        "attempt": attempt,
        "kind": st.sampled_from(get_args(facts.WaitKind)),
        "until": st.none() | at,
        "name": st.text(),
    },
    facts.NodeOverridden: {**asked, "node": node, "result": values | st.just(msgspec.UNSET)},
    facts.CancelRequested: {**asked, "grace": st.integers(0, 10**12), "terminate": st.booleans()},
    facts.Paused: {**asked, "node": node | st.just("")},
    facts.Resumed: {**asked, "node": node | st.just("")},
    facts.RerunRequested: {**asked, "nodes": st.lists(node).map(tuple), "items": st.lists(node).map(tuple)},
    facts.Signalled: {**asked, "name": st.text(), "payload": values},
    facts.Decided: {**asked, "node": node, "index": index, "approved": st.booleans()},
    facts.InputsEdited: {**asked, "node": node, "inputs": values},
    facts.CommandRefused: {**asked, "kind": st.text(), "why": st.text()},
    facts.ExecutionTimedOut: {"timeout": st.integers(0, 10**12)},
    facts.ExecutionConcluded: {
        "status": st.sampled_from(["succeeded", "failed", "cancelled"]),
        "outputs": values | st.just(msgspec.UNSET),
        "error": st.none() | error,
    },
    facts.ExecutionSucceeded: {"outputs": values},
    facts.ExecutionFailed: {"error": error},
    facts.ExecutionCancelled: {"reason": st.text()},
}


def plain(fact: facts.Fact) -> dict[str, object]:
    """The fields, raw values as their bytes: `Raw` compares by identity."""
    fields = msgspec.structs.asdict(fact)
    return {name: bytes(value) if isinstance(value, msgspec.Raw) else value for name, value in fields.items()}


def test_every_kind_of_fact_is_tried_here() -> None:
    assert set(STRATEGIES) == set(get_args(facts.Fact))


@given(st.data())
@pytest.mark.parametrize("kind", STRATEGIES, ids=lambda kind: kind.__name__)
def test_a_fact_survives_encoding(kind: type, data: st.DataObject) -> None:
    fact = data.draw(st.builds(kind, at=at, **STRATEGIES[kind]))
    back = facts.decode(facts.encode(fact))
    assert type(back) is kind
    assert plain(back) == plain(fact)


@given(st.data())
@pytest.mark.parametrize("kind", STRATEGIES, ids=lambda kind: kind.__name__)
def test_the_type_is_the_first_member(kind: type, data: st.DataObject) -> None:
    fact = data.draw(st.builds(kind, at=at, **STRATEGIES[kind]))
    assert facts.encode(fact).startswith(b'{"type":"%s",' % kind.__name__.encode())


def test_an_absent_value_is_left_out_and_stays_absent() -> None:
    encoded = facts.encode(facts.NodeSucceeded(at=1, node="a"))
    assert encoded == b'{"type":"NodeSucceeded","at":1,"node":"a"}'
    back = facts.decode(encoded)
    assert isinstance(back, facts.NodeSucceeded)
    assert back.result is msgspec.UNSET


def test_a_fact_of_another_kind_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="NodeExploded"):
        facts.decode(b'{"type":"NodeExploded","at":1}')
