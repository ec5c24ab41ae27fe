"""What engines have they keep for as long as they were promised, and nobody else gets it before."""

from __future__ import annotations

import asyncio
from typing import Any

from dagengine.spec.model import Document
from dagengine.testing import VirtualClock


async def test_a_report_with_a_beat_is_answered_with_a_lease(bench: Any) -> None:
    engine = await bench.engine()
    await engine.says(load={"capacity": 10, "beat": 3})
    leases = [message.lease for message in engine.sent if message.HasField("lease")]
    assert [(lease.beat, lease.milliseconds) for lease in leases] == [(3, 30_000)]
    await engine.says(load={"capacity": 10})
    assert sum(message.HasField("lease") for message in engine.sent) == 1


async def test_a_lease_does_not_wait_for_the_store(bench: Any) -> None:
    engine = await bench.engine()
    gate = bench.store.hold("add_logs")
    line = b'{"node":"a","attempt":1,"line":"x"}'
    message = engine.says(load={"capacity": 10, "beat": 1}, logs=[{"execution": "x", "epoch": 1, "lines": [line]}])
    under_way = asyncio.ensure_future(message)
    await bench.store.reached("add_logs")
    assert any(message.HasField("lease") for message in engine.sent)
    gate.set()
    await under_way


async def test_nothing_is_placed_elsewhere_before_the_last_lease_is_over(bench: Any, lua: Document) -> None:
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    other = await bench.engine("engine-2")
    await engine.says(load={"capacity": 10, "beat": 1})
    engine.cut()
    await bench.advance(29)
    assert other.told("starts") == []
    await bench.advance(3)
    assert [start.execution for start in await other.gets("starts")] == [execution]


async def test_a_replica_whose_own_lease_is_over_promises_nothing(bench: Any) -> None:
    engine = await bench.engine()
    bench.store.failing.add("renew")
    await bench.advance(10)
    await engine.says(load={"capacity": 10, "beat": 1})
    assert not any(message.HasField("lease") for message in engine.sent)
    bench.store.failing.clear()
    await bench.advance(3)
    await engine.says(load={"capacity": 10, "beat": 2})
    assert [message.lease.beat for message in engine.sent if message.HasField("lease")] == [2]


async def test_a_wall_clock_that_is_put_forward_ends_no_lease(bench: Any, lua: Document) -> None:
    steady = VirtualClock(at=5_000_000)
    await bench.restart(steady=steady)
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    other = await bench.engine("engine-2")
    engine.cut()
    await bench.advance(60)
    await other.says(load={"capacity": 10, "beat": 1})
    assert any(message.HasField("lease") for message in other.sent)
    assert other.told("starts") == []
    for _ in range(31):
        steady.advance(1_000_000)
        await bench.quiet()
    assert [start.execution for start in await other.gets("starts")] == [execution]
