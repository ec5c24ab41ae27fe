"""Pools, rates, concurrency keys and priorities of an orchestrator with real engines, through its verbs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from dagengine import DAGEngine
from dagengine.admission import declaration
from dagengine.errors import InputError
from dagengine.server.host import Host
from dagengine.server.service import EngineServer
from dagengine.spec.model import Document
from orchestrator import Options, Orchestrator
from orchestrator.errors import AtLimit, RequestError


class Work:
    """A Python function that takes as long as the test likes, and how many of it run at once."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.begun: list[Any] = []
        self.go = asyncio.Event()

    async def __call__(self, number: Any = 0) -> Any:
        self.begun.append(number)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.go.wait()
        finally:
            self.now -= 1
        return number


def workflow(name: str = "limited", *, node: dict[str, Any] | None = None, **spec: Any) -> Document:
    work = {"id": "work", "executor": {"type": "python", "function": "work", "args": {"number": "{{ inputs.n }}"}}}
    inputs = {"n": {"type": "integer", "default": 0}, "tenant": {"type": "string", "default": ""}}
    return Document.model_validate(
        {
            "metadata": {"id": name, "version": "1.0.0"},
            "spec": {"inputs": inputs, "nodes": [work | (node or {})], **spec},
        }
    )


@pytest.fixture
async def work() -> Work:
    return Work()


@pytest.fixture
async def running(work: Work) -> AsyncIterator[Callable[..., Any]]:
    """`await running(pools="db=2", engines=["db=1", ""])`: an orchestrator with an engine for each of the texts."""
    async with AsyncExitStack() as stack:

        async def make(*, pools: str = "", engines: tuple[str, ...] = ("",), url: str = "sqlite://") -> Orchestrator:
            options = Options(pools=declaration.parse(pools), strategy="round-robin")
            orch = await stack.enter_async_context(Orchestrator(url, options=options))
            for number, own in enumerate(engines, start=1):
                orch.register_engine(f"engine-{number}", DAGEngine(functions={"work": work}, pools=own))
            return orch

        yield make


async def register(orch: Orchestrator, document: Document) -> None:
    await orch.register_workflow(document.id, document.version, document)


async def test_a_pool_over_the_whole_system_holds_over_all_engines(running: Any, work: Work, soon: Any) -> None:
    orch = await running(pools="db=3", engines=("", ""))
    await register(orch, workflow(node={"pool": "db"}))
    views = [await orch.start("limited", {"n": number}) for number in range(8)]
    await soon(lambda: work.now == 3)
    [db] = await soon(lambda: _waiting(orch, 5))
    assert (db.name, db.scope, db.size, db.used) == ("db", "system", 3, 3)
    work.go.set()
    ended = [await orch.wait(view.id, timeout=20) for view in views]
    assert Counter(view.status for view in ended) == {"succeeded": 8}
    assert {view.engine for view in ended} == {"engine-1", "engine-2"}
    assert work.most == 3
    await soon(lambda: _used(orch, 0))


async def _waiting(orch: Orchestrator, count: int) -> Any:
    pools = await orch.pools()
    return pools if pools[0].waiting == count else None


async def _used(orch: Orchestrator, count: int) -> bool:
    return (await orch.pools())[0].used == count


async def test_a_pool_of_an_engine_holds_there_alone(running: Any, work: Work, soon: Any) -> None:
    orch = await running(engines=("db=2", "db=1"))
    await register(orch, workflow(node={"pool": "db"}))
    views = [await orch.start("limited") for _ in range(6)]
    await soon(lambda: work.now == 3)
    work.go.set()
    for view in views:
        assert (await orch.wait(view.id, timeout=20)).status == "succeeded"
    assert work.most == 3
    assert [(pool.engine, pool.size) for pool in await orch.pools()] == [("engine-1", 2), ("engine-2", 1)]


async def test_without_the_pool_an_execution_waits_and_says_so(running: Any, soon: Any, work: Work) -> None:
    orch = await running()
    await register(orch, workflow(node={"pool": "db"}))
    view = await orch.start("limited")
    await soon(lambda: _waits_on(orch, view.id, "no_pool:db"))
    work.go.set()
    orch.register_engine("engine-2", DAGEngine(functions={"work": work}, pools="db=1"))
    assert (await orch.wait(view.id, timeout=20)).engine == "engine-2"


async def _waits_on(orch: Orchestrator, execution: str, reason: str) -> bool:
    return (await orch.execution(execution)).waiting_on == reason


async def test_items_share_a_pool_over_the_whole_system(running: Any, work: Work, soon: Any) -> None:
    orch = await running(pools="db=4", engines=("", ""))
    node = {
        "pool": "db",
        "weight": 2,
        "foreach": "{1, 2, 3, 4, 5, 6}",
        "executor": {"type": "python", "function": "work", "args": {"number": "{{ item }}"}},
    }
    await register(orch, workflow(node=node))
    view = await orch.start("limited")
    await soon(lambda: work.now == 2)
    work.go.set()
    ended = await orch.wait(view.id, timeout=20)
    assert ended.outputs == {"work": [1, 2, 3, 4, 5, 6]}
    assert work.most == 2


@pytest.fixture
async def far(work: Work) -> AsyncIterator[EngineServer]:
    """An engine that goes on when its orchestrator does not."""
    async with DAGEngine(functions={"work": work}) as engine:
        server = EngineServer(Host(engine, engine_id="far", version="0"), bind="127.0.0.1", port=0)
        await server.start()
        yield server
        await server.stop()


async def test_an_engine_that_comes_back_still_holds_its_room(
    far: EngineServer, work: Work, soon: Any, tmp_path: Any
) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    options = Options(pools=declaration.parse("db=2"))
    async with Orchestrator(url, engines=[far.address], options=options) as orch:
        await register(orch, workflow(node={"pool": "db"}))
        views = [await orch.start("limited", {"n": number}) for number in range(4)]
        await soon(lambda: work.now == 2)
    async with Orchestrator(url, engines=[far.address], options=options) as orch:
        await soon(lambda: _waiting(orch, 2))
        assert await _used(orch, 2)
        assert work.most == 2
        work.go.set()
        for view in views:
            assert (await orch.wait(view.id, timeout=20)).status == "succeeded"
    assert work.most == 2


async def test_the_concurrency_key_comes_from_the_inputs(running: Any, work: Work, soon: Any) -> None:
    orch = await running()
    await register(orch, workflow(concurrency={"key": "{{ inputs.tenant }}", "max": 1}))
    first = await orch.start("limited", {"tenant": "acme"})
    second = await orch.start("limited", {"tenant": "acme"})
    other = await orch.start("limited", {"tenant": "other"})
    assert (first.concurrency_key, other.concurrency_key) == ("acme", "other")
    await soon(lambda: work.now == 2)
    assert (await orch.execution(second.id)).waiting_on == "concurrency"
    work.go.set()
    assert (await orch.wait(second.id, timeout=20)).status == "succeeded"
    assert work.most == 2


async def test_a_key_may_be_any_value_and_must_be_one(running: Any) -> None:
    orch = await running()
    await register(orch, workflow("numbers", concurrency={"key": "{{ inputs.n }}"}))
    assert (await orch.start("numbers", {"n": 5})).concurrency_key == "5"
    await register(orch, workflow("broken", concurrency={"key": "{{ inputs.n.x.y }}"}))
    with pytest.raises(InputError, match=r"no usable key for spec\.concurrency"):
        await orch.start("broken")
    await register(orch, workflow("long", concurrency={"key": "{{ inputs.tenant }}"}))
    with pytest.raises(InputError, match="2,000 characters"):
        await orch.start("long", {"tenant": "x" * 2_000})


async def test_skip_is_a_clear_refusal_and_the_first_answer_stays(running: Any, work: Work, soon: Any) -> None:
    orch = await running()
    await register(orch, workflow(concurrency={"max": 1, "on_conflict": "skip"}))
    first = await orch.start("limited", idempotency_key="k")
    with pytest.raises(AtLimit, match="1 of 1 executions of 'limited' are under way"):
        await orch.start("limited")
    assert (await orch.start("limited", idempotency_key="k")).id == first.id
    work.go.set()
    await orch.wait(first.id, timeout=20)
    assert (await orch.start("limited")).status == "queued"


async def test_replace_ends_with_the_newest(running: Any, work: Work, soon: Any) -> None:
    orch = await running()
    await register(orch, workflow(concurrency={"max": 1, "on_conflict": "replace"}))
    first = await orch.start("limited", {"n": 1})
    await soon(lambda: work.now == 1)
    second = await orch.start("limited", {"n": 2})
    ended = await orch.wait(first.id, timeout=20)
    assert (ended.status, ended.reason) == ("cancelled", f"replaced by execution {second.id}")
    work.go.set()
    assert (await orch.wait(second.id, timeout=20)).status == "succeeded"


async def test_a_priority_is_that_of_the_workflow_or_of_the_start(running: Any, work: Work) -> None:
    orch = await running()
    await register(orch, workflow(priority=7))
    assert (await orch.start("limited")).priority == 7
    assert (await orch.start("limited", priority=-3)).priority == -3
    with pytest.raises(RequestError, match="a priority lies between -1000 and 1000, and is not 1001"):
        await orch.start("limited", priority=1_001)


async def test_attempts_wait_with_the_priority_of_their_execution(running: Any, work: Work, soon: Any) -> None:
    orch = await running(pools="db=1")
    await register(orch, workflow(node={"pool": "db"}))
    views = [await orch.start("limited", {"n": 0})]
    await soon(lambda: work.now == 1)
    for number, priority in ((1, 0), (2, 900)):
        views.append(await orch.start("limited", {"n": number}, priority=priority))
        await soon(lambda count=number: _waiting(orch, count))
    work.go.set()
    for view in views:
        await orch.wait(view.id, timeout=20)
    assert work.begun == [0, 2, 1]
