"""Two orchestrators over one PostgreSQL, in this process: either takes any request, and either may go."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from dagengine import DAGEngine
from dagengine.admission import declaration
from dagengine.events import facts as codec
from dagengine.machine import operations
from dagengine.server.host import Host
from dagengine.server.service import EngineServer
from dagengine.spec.model import Document
from orchestrator import Options, Orchestrator
from orchestrator.errors import AtLimit, Conflict, NotFound
from orchestrator.store.base import InboxItem

LEASE = 1.0


class Work:
    """A Python function that takes as long as the test likes."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.now = 0
        self.most = 0
        self.go = asyncio.Event()

    async def __call__(self, number: Any = 0) -> Any:
        self.calls.append(number)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.go.wait()
        finally:
            self.now -= 1
        return number


def working(name: str = "working", *, node: dict[str, Any] | None = None, **spec: Any) -> Document:
    work = {"id": "work", "executor": {"type": "python", "function": "work", "args": {"number": "{{ inputs.n }}"}}}
    nodes = [work | (node or {}), {"id": "after", "dependencies": ["work"], "executor": lua("return nodes.work + 1")}]
    inputs = {"n": {"type": "integer", "default": 0}, "tenant": {"type": "string", "default": ""}}
    return Document.model_validate(
        {"metadata": {"id": name, "version": "1.0.0"}, "spec": {"inputs": inputs, "nodes": nodes, **spec}}
    )


def lua(code: str) -> dict[str, str]:
    return {"type": "lua", "code": code}


class Pair:
    """Replicas `a`, which leads, and `b`."""

    def __init__(self, a: Orchestrator, b: Orchestrator) -> None:
        self.a = a
        self.b = b

    async def owner(self, execution: str) -> str | None:
        """The name of the replica that owns an execution; None: nobody."""
        record = await self.b._store.execution(execution)
        names = {replica.id: replica.name for replica in await self.b._store.replicas()}
        return names.get(record.owner or "") if record is not None else None


@pytest.fixture
async def work() -> Work:
    return Work()


@pytest.fixture
async def far(work: Work) -> AsyncIterator[EngineServer]:
    """An engine that both dial."""
    async with DAGEngine(functions={"work": work}) as engine:
        server = EngineServer(Host(engine, engine_id="far", version="0", capacity=50), bind="127.0.0.1", port=0)
        await server.start()
        yield server
        await server.stop()


@pytest.fixture
async def replica(far: EngineServer, postgres_server: Any) -> AsyncIterator[Callable[..., Awaitable[Orchestrator]]]:
    """`await replica("a", …)`: one more orchestrator over the same database."""
    url = await asyncio.to_thread(postgres_server.emptied)
    async with AsyncExitStack() as stack:

        async def make(name: str, **options: Any) -> Orchestrator:
            chosen = Options(name=name, replica_lease=LEASE, engine_lost_after=5.0, **options)
            return await stack.enter_async_context(Orchestrator(url, engines=[far.address], options=chosen))

        yield make


@pytest.fixture
async def pair(replica: Any, soon: Any) -> Pair:
    return await both(replica, soon)


async def both(replica: Any, soon: Any, **options: Any) -> Pair:
    """Two replicas that have found the engine, and each other."""
    found = Pair(await replica("a", **options), await replica("b", **options))
    for orch in (found.a, found.b):
        await soon(lambda orch=orch: orch.readiness() == [] and orch._dispatcher.shared)
    return found


async def begun(orch: Orchestrator, work: Work, soon: Any, reference: str = "working", **inputs: Any) -> str:
    """An execution whose work has begun."""
    before = len(work.calls)
    view = await orch.start(reference, inputs)
    await soon(lambda: len(work.calls) > before)
    return view.id


def freeze(monkeypatch: Any, orch: Orchestrator) -> asyncio.Event:
    """Keep a replica from renewing its lease until the event that this gives is set."""
    thawed = asyncio.Event()
    renew = orch._store.renew

    async def late() -> Any:
        await thawed.wait()
        return await renew()

    monkeypatch.setattr(orch._store, "renew", late)
    return thawed


async def kinds(orch: Orchestrator, execution: str) -> Counter[str]:
    found = await orch.facts(execution)
    assert [fact.seq for fact in found] == list(range(1, len(found) + 1))
    return Counter(type(codec.decode(bytes(fact.fact))).__name__ for fact in found)


# --- any of them takes any request ---


async def test_what_one_has_registered_the_other_knows(pair: Pair) -> None:
    with pytest.raises(NotFound):
        await pair.b.start("working")
    await pair.a.apply(working())
    assert (await pair.b.start("working@^1")).workflow == "working"
    await pair.b.delete_workflow("working", force=True)
    with pytest.raises(NotFound):
        await pair.b.workflow("working")


async def test_what_one_has_removed_the_other_forgets(pair: Pair, soon: Any) -> None:
    await pair.a.apply(working())
    await pair.b.workflow("working")
    await pair.a.delete_workflow("working")

    async def forgotten() -> bool:
        return await pair.b.workflows() == []

    await soon(forgotten)


async def test_an_execution_can_be_followed_at_either(pair: Pair, work: Work, soon: Any) -> None:
    await pair.a.apply(working())
    execution = await begun(pair.a, work, soon, n=1)
    waiting = [asyncio.create_task(orch.wait(execution)) for orch in (pair.a, pair.b)]
    events = [asyncio.create_task(_events(orch, execution)) for orch in (pair.a, pair.b)]
    await soon(lambda: pair.b._dispatcher.feed.followed == [execution])
    work.go.set()
    async with asyncio.timeout(20):
        views = await asyncio.gather(*waiting)
        told = await asyncio.gather(*events)
    assert [view.outputs for view in views] == [{"after": 2}] * 2
    assert told[0] == told[1] == list(range(1, views[0].last_seq + 1))


async def _events(orch: Orchestrator, execution: str) -> list[int]:
    return [view.seq async for view in orch.events(execution)]


async def test_whoever_accepts_an_execution_owns_it(pair: Pair, work: Work, soon: Any) -> None:
    await pair.a.apply(working())
    executions = [await begun(orch, work, soon) for orch in (pair.a, pair.b)]
    assert [await pair.owner(execution) for execution in executions] == ["a", "b"]
    assert [view.running for view in await pair.a.engines()] == [2]
    assert (pair.a._dispatcher.running, pair.b._dispatcher.running) == (1, 1)
    work.go.set()
    for execution in executions:
        assert (await pair.a.wait(execution)).status == "succeeded"


async def test_operations_reach_the_owner(pair: Pair, work: Work, soon: Any) -> None:
    await pair.a.apply(working())
    execution = await begun(pair.a, work, soon)
    receipt = await pair.b.cancel(execution, reason="enough")
    async with asyncio.timeout(20):
        view = await pair.b.wait(execution)
    assert (view.status, view.reason) == ("cancelled", "enough")
    cancelled = codec.decode(bytes((await pair.b.facts(execution, after=receipt.after))[0].fact))
    assert isinstance(cancelled, codec.CancelRequested)
    with pytest.raises(Conflict, match="has ended already"):
        await pair.b.cancel(execution)


async def test_so_they_do_when_nothing_is_heard_of_them(pair: Pair, work: Work, soon: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(pair.a._dispatcher, "heard", lambda topic: None)
    monkeypatch.setattr(pair.b._dispatcher, "heard", lambda topic: None)
    await pair.a.apply(working())
    execution = await begun(pair.a, work, soon)
    await pair.b.pause(execution)
    await pair.b.cancel(execution)
    async with asyncio.timeout(20):
        assert (await pair.b.wait(execution)).status == "cancelled"


async def test_what_was_asked_first_is_done_first_wherever_it_was_asked(
    pair: Pair, work: Work, soon: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(pair.a._dispatcher, "heard", lambda topic: None)
    await pair.a.apply(working())
    execution = await begun(pair.a, work, soon)
    for _ in range(3):
        await pair.b.pause(execution)
        await pair.a.resume(execution)

    async def done() -> bool:
        told = await kinds(pair.b, execution)
        return told["Paused"] + told["Resumed"] + told["CommandRefused"] == 6

    await soon(done)
    facts = [codec.decode(bytes(fact.fact)) for fact in await pair.b.facts(execution)]
    assert [type(fact) for fact in facts if isinstance(fact, codec.Operation)] == [codec.Paused, codec.Resumed] * 3


async def test_what_has_ended_at_one_goes_on_at_any(pair: Pair, work: Work, soon: Any) -> None:
    await pair.a.apply(working())
    work.go.set()
    view = await pair.a.wait((await pair.a.start("working")).id)
    await pair.b.retry(view.id, nodes=["work"])

    async def twice() -> bool:
        return (await kinds(pair.b, view.id))["ExecutionSucceeded"] == 2

    await soon(twice)
    assert (await pair.a.wait(view.id)).status == "succeeded"
    assert work.calls == [0, 0]


async def test_idempotency_keys_hold_over_both(pair: Pair, work: Work) -> None:
    await pair.a.apply(working())
    work.go.set()
    views = await asyncio.gather(*(orch.start("working", idempotency_key="k") for orch in (pair.a, pair.b) * 5))
    assert len({view.id for view in views}) == 1
    await pair.b.wait(views[0].id)
    assert len(work.calls) == 1


async def test_replicas_are_listed(pair: Pair) -> None:
    listed = await pair.b.replicas()
    assert [(one.name, one.leads) for one in listed] == [("a", True), ("b", False)]
    assert all(one.joined_at < one.until for one in listed)


# --- they come and go ---


async def test_a_replica_that_is_closed_hands_over(pair: Pair, work: Work, soon: Any) -> None:
    await pair.a.apply(working())
    execution = await begun(pair.a, work, soon, n=1)
    following = asyncio.create_task(pair.b.wait(execution))
    await pair.a.close()

    async def handed_over() -> bool:
        return await pair.owner(execution) == "b"

    await soon(handed_over)
    assert [(one.name, one.leads) for one in await pair.b.replicas()] == [("b", True)]
    await soon(lambda: pair.b._dispatcher.leads)
    work.go.set()
    async with asyncio.timeout(20):
        view = await following
    assert (view.status, view.outputs) == ("succeeded", {"after": 2})
    assert work.calls == [1]
    assert (await kinds(pair.b, execution))["NodeStarted"] == 2


async def test_what_one_leaves_queued_the_other_places(replica: Any, work: Work, soon: Any) -> None:
    pair = await both(replica, soon)
    await pair.a.apply(working(node={"executor": {"type": "python", "function": "missing"}}))
    view = await pair.a.start("working")
    await soon(lambda: _waits(pair.a, view.id, "engines_unable"))
    assert (await pair.b.execution(view.id)).waiting_on is None
    await pair.a.close()
    await soon(lambda: _waits(pair.b, view.id, "engines_unable"))


async def _waits(orch: Orchestrator, execution: str, reason: str | None) -> bool:
    return (await orch.execution(execution)).waiting_on == reason


async def test_what_is_not_heard_of_any_more_is_taken_over(pair: Pair, work: Work, soon: Any, monkeypatch: Any) -> None:
    await pair.a.apply(working())
    execution = await begun(pair.a, work, soon, n=1)
    waiting = [asyncio.create_task(orch.wait(execution)) for orch in (pair.a, pair.b)]
    thawed = freeze(monkeypatch, pair.a)

    async def taken_over() -> bool:
        return await pair.owner(execution) == "b"

    await soon(taken_over)
    await soon(lambda: pair.b._dispatcher.leads)
    work.go.set()
    async with asyncio.timeout(20):
        assert (await waiting[1]).outputs == {"after": 2}
        thawed.set()
        assert (await waiting[0]).outputs == {"after": 2}
    assert work.calls == [1]
    await kinds(pair.b, execution)
    # It has joined again, and works as before.
    await soon(lambda: not pair.a._dispatcher.leads and not pair.a._dispatcher.out_of_touch)
    assert Counter([one.name for one in await pair.b.replicas()]) == {"a": 1, "b": 1}
    work.go.clear()
    execution = await begun(pair.a, work, soon, n=5)
    assert await pair.owner(execution) == "a"
    work.go.set()
    assert (await pair.a.wait(execution)).outputs == {"after": 6}


async def test_a_replica_that_was_fenced_takes_requests_all_the_same(
    pair: Pair, work: Work, soon: Any, monkeypatch: Any
) -> None:
    work.go.set()
    await pair.a.apply(working())
    thawed = freeze(monkeypatch, pair.a)
    await soon(lambda: pair.b._dispatcher.leads)
    starting = asyncio.create_task(pair.a.start("working", {"n": 1}))
    await asyncio.sleep(0)
    thawed.set()
    async with asyncio.timeout(20):
        view = await starting
        assert (await pair.a.wait(view.id)).outputs == {"after": 2}


# --- what only the leader does ---

QUEUE = {"key": "{{ inputs.tenant }}", "max": 1}


async def test_keys_count_over_both(pair: Pair, work: Work, soon: Any) -> None:
    await pair.a.apply(working(concurrency=QUEUE))
    first = await begun(pair.b, work, soon, n=1, tenant="t")
    second = await pair.a.start("working", {"n": 2, "tenant": "t"})
    third = await pair.b.start("working", {"n": 3, "tenant": "t"})
    other = await begun(pair.b, work, soon, n=4, tenant="u")
    assert [await pair.owner(one) for one in (first, second.id, other)] == ["a"] * 3
    for orch in (pair.a, pair.b):
        assert [(await orch.execution(one)).waiting_on for one in (second.id, third.id)] == ["concurrency"] * 2
    assert work.calls == [1, 4]
    work.go.set()
    for one in (first, second.id, third.id, other):
        assert (await pair.b.wait(one)).status == "succeeded"
    assert work.calls == [1, 4, 2, 3]


async def test_keys_count_on_with_the_next_leader(pair: Pair, work: Work, soon: Any) -> None:
    await pair.a.apply(working(concurrency=QUEUE))
    await begun(pair.a, work, soon, n=1)
    rest = [await pair.b.start("working", {"n": number}) for number in (2, 3)]
    await pair.a.close()
    await soon(lambda: pair.b._dispatcher.leads)
    rest.append(await pair.b.start("working", {"n": 4}))
    work.go.set()
    for view in rest:
        assert (await pair.b.wait(view.id)).status == "succeeded"
    assert (work.calls, work.most) == ([1, 2, 3, 4], 1)


async def test_what_is_skipped_is_refused_by_both(pair: Pair, work: Work, soon: Any) -> None:
    await pair.a.apply(working(concurrency=QUEUE | {"on_conflict": "skip"}))
    answers = await asyncio.gather(
        *(orch.start("working", {"tenant": "t"}) for orch in (pair.a, pair.b) * 4), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, AtLimit)]
    [started] = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert len(refused) == 7
    assert "skips" in str(refused[0])
    work.go.set()
    await pair.b.wait(started.id)
    await pair.b.start("working", {"tenant": "t"})


async def test_pools_are_counted_by_the_leader(replica: Any, work: Work, soon: Any) -> None:
    pair = await both(replica, soon, pools=declaration.parse("db=2"))
    await pair.a.apply(working(node={"pool": "db"}))
    views = [await orch.start("working", {"n": 1}) for orch in (pair.a, pair.b) * 2]
    await soon(lambda: work.now == 2)
    await soon(lambda: _pool(pair.a, (2, 2)))
    assert await _pool(pair.b, (None, None))
    assert "leads" in (await pair.b.pools())[0].reason
    await pair.a.close()
    await soon(lambda: _pool(pair.b, (2, 2)))
    assert work.now == 2
    work.go.set()
    for view in views:
        assert (await pair.b.wait(view.id)).status == "succeeded"
    assert work.most == 2


async def _pool(orch: Orchestrator, expected: tuple[int | None, int | None]) -> bool:
    [pool] = await orch.pools()
    return (pool.used, pool.waiting) == expected


async def test_cron_starts_each_occurrence_once(pair: Pair, work: Work, soon: Any) -> None:
    work.go.set()
    document = working(triggers={"cron": {"schedule": "* * * * * *", "timezone": "UTC"}})
    await pair.a.apply(document)
    store = pair.b._store

    async def count() -> int:
        return len(await store.executions(limit=100))

    async def some() -> bool:
        return await count() >= 2

    await soon(some)
    await pair.a.close()
    before = await count()

    async def more() -> bool:
        return await count() >= before + 2

    await soon(more)
    seconds = sorted(int((record.occurrence or "").rsplit(":", 1)[1]) for record in await store.executions(limit=100))
    assert len({after - before for before, after in itertools.pairwise(seconds)}) == 1  # none twice, none left out


async def test_an_inbox_item_is_delivered_once_though_it_is_read_twice(pair: Pair, work: Work, soon: Any) -> None:
    await pair.a.apply(working())
    execution = await begun(pair.a, work, soon)
    item = InboxItem(
        id="p1", execution=execution, kind="pause", payload=operations.encode(operations.Pause()), created_at=1
    )
    await pair.b._dispatcher.inboxes.operate(item)

    async def paused() -> bool:
        return "Paused" in await kinds(pair.b, execution)

    await soon(paused)
    await pair.a._dispatcher.inboxes._collect(None)
    tracked = pair.a._dispatcher._ledger.executions[execution]
    assert (tracked.inbox, tracked.done) == ({}, {"p1"})
    assert (await kinds(pair.b, execution))["Paused"] == 1
