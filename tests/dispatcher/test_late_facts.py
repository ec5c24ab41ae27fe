"""Facts of an engine that has lost their execution are counted as refused, although it is not asked to send them."""

from __future__ import annotations

from typing import Any

import pytest

from dagengine.spec.model import Document
from dagengine.wire.v1 import session_pb2
from orchestrator.dispatcher.doubts import late_facts
from orchestrator.errors import TransportError
from orchestrator.store.base import ExecutionRecord


def record(*, engine: str | None, epoch: int, dispatch_epoch: int) -> ExecutionRecord:
    return ExecutionRecord(
        id="e",
        workflow="w",
        version="1.0.0",
        digest="sha256:0",
        status="succeeded",
        inputs=b"{}",
        seed=1,
        epoch=epoch,
        last_seq=9,
        engine=engine,
        trigger="api",
        idempotency_key=None,
        occurrence=None,
        outputs=b"{}",
        error=None,
        created_at=1,
        started_at=2,
        finished_at=3,
        dispatch_epoch=dispatch_epoch,
    )


@pytest.mark.parametrize(
    ("known", "count"),
    [
        pytest.param(record(engine="other", epoch=3, dispatch_epoch=3), 4, id="another-engine-has-it"),
        pytest.param(record(engine="mine", epoch=3, dispatch_epoch=3), 4, id="it-was-dispatched-here-anew"),
        pytest.param(record(engine="mine", epoch=3, dispatch_epoch=2), 0, id="its-owner-has-changed"),
        pytest.param(record(engine="mine", epoch=2, dispatch_epoch=2), 0, id="only-the-last-ack-was-lost"),
        pytest.param(None, 4, id="nobody-knows-it"),
    ],
)
def test_what_nobody_takes_is_late(known: ExecutionRecord | None, count: int) -> None:
    held = session_pb2.Held(execution="e", epoch=2, last_seq=9, acknowledged=5)
    assert late_facts(known, "mine", held) == count


async def test_facts_of_what_no_execution_is_named_keep_nobody_waiting(bench: Any, lua: Document) -> None:
    """PostgreSQL takes no NUL in a text, and so none of the facts that were to be committed together with these."""
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    with pytest.raises(TransportError, match="a name that is none"):
        await engine.facts("a\x00b", [b"{}"])
    cited = b'{"type":"Paused","at":1,"author":"","reason":"","command":"\\u0000"}'
    with pytest.raises(TransportError, match="a name that is none"):
        await engine.facts(execution, [cited])
