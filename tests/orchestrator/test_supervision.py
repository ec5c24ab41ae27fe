"""Tasks that should never end: when one dies, everybody is told, and nobody waits for what will not come."""

from __future__ import annotations

import asyncio
import gc
import operator
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from dagengine import DAGEngine, Workflow
from orchestrator import Orchestrator, supervision
from orchestrator.app import Options
from orchestrator.cli import serving
from orchestrator.errors import OrchestratorError, StoreError, Unavailable
from orchestrator.supervision import Supervisor


async def fail() -> None:
    raise RuntimeError("a bolt is loose")


class TestSupervisor:
    async def test_a_task_that_dies_is_told_of(self) -> None:
        supervisor = Supervisor()
        with capture_logs() as logs:
            supervisor.start(fail(), name="work")
            async with asyncio.timeout(10):
                await supervisor.died()
        assert supervisor.faults == ["the task 'work' has died; the log tells why"]
        [entry] = logs
        assert (entry["event"], entry["task"], entry["log_level"]) == ("task_died", "work", "critical")
        assert str(entry["exc_info"]) == "a bolt is loose"

    async def test_so_is_one_that_just_ends(self) -> None:
        supervisor = Supervisor()
        await supervisor.start(asyncio.sleep(0), name="work")
        async with asyncio.timeout(10):
            await supervisor.died()
        assert len(supervisor.faults) == 1

    async def test_one_that_was_told_to_end_is_not(self) -> None:
        supervisor = Supervisor()
        stopped = supervisor.start(asyncio.sleep(30), name="stopped")
        released = supervisor.start(asyncio.sleep(0), name="released")
        cancelled = supervisor.start(asyncio.sleep(30), name="cancelled")
        supervisor.release(released)
        await supervisor.stop(stopped)
        cancelled.cancel()
        await asyncio.gather(released, cancelled, return_exceptions=True)
        assert supervisor.faults == []


async def test_when_facts_are_not_committed_any_more_nobody_waits_for_them(
    orch: Orchestrator, hello: Workflow, monkeypatch: Any
) -> None:
    await orch.register_workflow("hello", "1.0.0", hello)

    async def append(*_: Any) -> Any:
        raise RuntimeError("not an error of a store")

    monkeypatch.setattr(orch._store, "append", append)
    view = await orch.start("hello", {"name": "Ada"})
    with pytest.raises(Unavailable, match="has broken down"):
        await orch.wait(view.id, timeout=30)
    with pytest.raises(Unavailable, match="has broken down"):
        await orch.wait(view.id, timeout=30)
    with pytest.raises(Unavailable, match="has broken down"):
        await orch.start("hello", {"name": "Bob"})
    assert orch.health() == ["the task 'Commits.run' has died; the log tells why"]
    async with orch.serving() as served, httpx.AsyncClient(base_url=served.url) as http:
        answers = [await http.get(path) for path in ("/healthz", "/readyz")]
        assert [answer.status_code for answer in answers] == [503, 503]
        assert answers[0].json() == {"status": "broken", "reasons": orch.health()}
        # The process ends by itself, so that somebody starts it anew.
        with pytest.raises(OrchestratorError, match=r"'Commits\.run' has died"):
            await serving._any(asyncio.Event(), served, orch)


async def vanish() -> AsyncIterator[None]:
    for nothing in ():
        yield nothing
    raise RuntimeError("nobody looks for engines any more")


@pytest.mark.parametrize(
    ("part", "work", "name"),
    [
        ("_static.watch", vanish, "static discovery"),
        ("_local.discovery.watch", vanish, "in-process discovery"),
        ("_singletons.run", fail, "singletons"),
        ("_registry.follow", lambda shared: fail(), "registry"),
        ("_dispatcher._claims.run", fail, "fail"),
    ],
)
async def test_every_task_is_watched(monkeypatch: Any, part: str, work: Any, name: str) -> None:
    orch = Orchestrator()
    owner, _, method = part.rpartition(".")
    monkeypatch.setattr(operator.attrgetter(owner)(orch), method, work)
    async with orch:
        async with asyncio.timeout(10):
            await orch.broken()
        assert orch.health() == [f"the task '{name}' has died; the log tells why"]


@pytest.mark.parametrize("name", ["cron", "purge"])
async def test_so_is_what_runs_on_the_leader_only(monkeypatch: Any, name: str) -> None:
    orch = Orchestrator()
    monkeypatch.setitem(orch._singletons._works, name, fail)
    async with orch:
        async with asyncio.timeout(10):
            await orch.broken()
        assert orch.health() == [f"the task '{name}' has died; the log tells why"]


async def test_links_are_watched_too(monkeypatch: Any, soon: Any) -> None:
    from orchestrator.transport.session import SessionLink

    async with Orchestrator() as orch:
        orch.register_engine("engine-1", DAGEngine())
        await soon(lambda: orch.readiness() == [])
        assert orch.health() == []
        monkeypatch.setattr(SessionLink, "run", lambda _: fail())
        orch.register_engine("engine-2", DAGEngine())
        async with asyncio.timeout(10):
            await orch.broken()
        assert orch.health() == ["the task 'link engine-2' has died; the log tells why"]


async def test_an_orchestrator_that_closes_is_not_broken() -> None:
    orch = Orchestrator()
    orch.register_engine("engine-1", DAGEngine())
    async with orch:
        pass
    assert orch.health() == []


async def test_a_database_that_is_away_makes_it_unready_but_not_ill(monkeypatch: Any, soon: Any) -> None:
    """To start it anew would mend nothing; requests had better go to another replica, if that has one."""

    async def away() -> None:
        raise StoreError("the database is away")

    async with Orchestrator(options=Options(replica_lease=0.3)) as orch:
        orch.register_engine("engine-1", DAGEngine())
        await soon(lambda: orch.readiness() == [])
        monkeypatch.setattr(orch._store, "renew", away)
        await soon(lambda: "longer than its lease" in "".join(orch.readiness()))
        assert orch.health() == []
        monkeypatch.undo()
        await soon(lambda: orch.readiness() == [])


async def test_what_is_begun_is_done_though_its_caller_gives_up_and_nobody_hears_of_its_error() -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
    begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await go_on.wait()
        done.set()
        raise OSError("nobody hears of it")

    caller = asyncio.ensure_future(supervision.to_its_end(work()))
    await begun.wait()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    go_on.set()
    await done.wait()
    await asyncio.sleep(0)
    del caller  # which holds on to what it waited for
    gc.collect()
    assert complaints == []
