"""What there is to run, counted over all replicas: what engines have and what waits, by version and engine."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.store.base import Batch, NewExecution, Store, Terminal, VersionRecord

Version = Callable[..., VersionRecord]
New = Callable[..., NewExecution]

DIGEST = "sha256:w-1.0.0"


async def counted(store: Store, *, now: int = 10) -> dict[tuple[str, str | None], int]:
    rows = await store.outstanding(now=now)
    assert len({(row.digest, row.engine) for row in rows}) == len(rows)
    return {(row.digest, row.engine): row.executions for row in rows}


async def test_what_engines_have_and_what_waits_is_counted_whoever_owns_it(
    joined: Store, version: Version, new_execution: New
) -> None:
    await joined.add_version(version("v"))
    for name in ("e2", "e3"):
        await joined.create_execution(new_execution(name))
    await joined.create_execution(new_execution("e4", owned=False))
    await joined.create_execution(new_execution("e5", workflow="v"))
    await joined.dispatch(["e2"], "engine-2")
    assert await counted(joined) == {
        (DIGEST, "engine-1"): 1,
        (DIGEST, "engine-2"): 1,
        (DIGEST, None): 2,
        ("sha256:v-1.0.0", None): 1,
    }


async def test_what_a_lost_replica_owned_is_counted_too(joined: Store, new_execution: New) -> None:
    await joined.create_execution(new_execution("e2"))
    await joined.leave()
    assert await counted(joined) == {(DIGEST, "engine-1"): 1, (DIGEST, None): 1}


async def test_what_has_ended_is_left_out(joined: Store) -> None:
    end = Terminal(status="succeeded", at=5, outputs=b"{}", error=None)
    await joined.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}'], terminal=end)])
    assert await counted(joined) == {}


async def test_what_is_parked_waits_for_no_engine_before_it_wakes(joined: Store) -> None:
    await joined.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}'])])
    assert await joined.park("e1", 1, 1, 50)
    assert await counted(joined, now=49) == {}
    assert await counted(joined, now=50) == {(DIGEST, None): 1}


async def test_what_waits_for_a_signal_waits_for_no_engine(joined: Store) -> None:
    await joined.append([Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}'])])
    assert await joined.park("e1", 1, 1, None)
    assert await counted(joined, now=1 << 60) == {}


async def test_what_has_a_concurrency_key_is_counted_once_an_engine_has_it(joined: Store, new_execution: New) -> None:
    await joined.create_execution(new_execution("e2", concurrency_key="w/k"))
    await joined.create_execution(new_execution("e3", concurrency_key="w/k", owned=False))
    assert await counted(joined) == {(DIGEST, "engine-1"): 1}
    await joined.dispatch(["e2"], "engine-1")
    assert await counted(joined) == {(DIGEST, "engine-1"): 2}
