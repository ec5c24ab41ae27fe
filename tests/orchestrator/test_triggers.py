"""Cron and HTTP triggers of registered documents, end to end."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from dagengine import DAGEngine, SpecError, Workflow
from dagengine.testing import START, VirtualClock
from orchestrator import CronTrigger, HTTPTrigger, Options, Orchestrator

SECOND = 1_000_000


def ticking(version: str = "1.0.0", schedule: str = "*/10 * * * * *") -> Workflow:
    wf = Workflow(
        "tick",
        version,
        inputs={"n": {"type": "integer"}},
        outputs={"n": "{{ nodes.double }}"},
        cron=CronTrigger(schedule=schedule, inputs={"n": 21}),
    )
    wf.lua("double", "return inputs.n * 2")
    return wf


class Ticker:
    """Moves the clock of an orchestrator second by second, and waits for what its cron service does at each."""

    def __init__(self, orch: Orchestrator, clock: VirtualClock) -> None:
        self.orch = orch
        self.clock = clock

    async def settled(self) -> None:
        """Whoever was woken is asleep again: cron, purge, the registry, health checks, five tasks of the dispatcher."""
        for _ in range(5):
            await asyncio.sleep(0)
        await self.clock.asleep(9)

    async def until(self, at: int) -> None:
        """Let time pass up to `at`; whoever wakes does what there is to do."""
        await self.settled()
        while self.clock.now() < at:
            self.clock.advance(SECOND)
            await self.settled()

    async def occurrences(self) -> list[int]:
        """Seconds after the start of the clock at which executions were created, oldest first."""
        page = await self.orch.executions(limit=500)
        assert page.next is None
        assert {view.trigger for view in page.items} <= {"cron"}
        return [(view.created_at - START) // SECOND for view in reversed(page.items)]


async def test_each_occurrence_starts_one_execution(opened: Any) -> None:
    clock = VirtualClock()
    orch = await opened(clock=clock)
    await orch.register_workflow("tick", "1.0.0", ticking())
    ticker = Ticker(orch, clock)
    await ticker.settled()
    await ticker.until(START + 45 * SECOND)
    assert await ticker.occurrences() == [10, 20, 30, 40]
    for view in (await orch.executions()).items:
        assert (await orch.wait(view.id)).outputs == {"n": 42}
    assert orch.monitor.snapshot().occurrences == {"started": 4}


async def test_occurrences_are_started_once_also_across_restarts(tmp_path: Path) -> None:
    """Closed, and opened again, in the middle of it: what fell due meanwhile is caught up, nothing comes twice."""
    url, clock = f"sqlite:///{tmp_path}/o.db", VirtualClock()
    async with Orchestrator(url, clock=clock) as orch:
        await orch.register_workflow("tick", "1.0.0", ticking())
        ticker = Ticker(orch, clock)
        await ticker.settled()
        await ticker.until(START + 25 * SECOND)
        assert await ticker.occurrences() == [10, 20]
    clock.advance(30 * SECOND)
    async with Orchestrator(url, clock=clock) as orch:
        orch.register_engine("engine-1", DAGEngine(clock=clock))
        ticker = Ticker(orch, clock)
        await ticker.settled()
        assert await ticker.occurrences() == [10, 20, 55, 55, 55]
        await ticker.until(START + 70 * SECOND)
        assert await ticker.occurrences() == [10, 20, 55, 55, 55, 60, 70]
        statuses = Counter([(await orch.wait(view.id)).status for view in (await orch.executions()).items])
        assert statuses == {"succeeded": 7}
    async with Orchestrator(url, clock=clock) as orch:
        ticker = Ticker(orch, clock)
        await ticker.settled()
        assert len(await ticker.occurrences()) == 7


async def test_a_start_that_was_not_remembered_is_not_made_again(tmp_path: Path) -> None:
    """The process died between the start and the note that the occurrence was dealt with."""
    url, clock = f"sqlite:///{tmp_path}/o.db", VirtualClock()
    async with Orchestrator(url, clock=clock) as orch:
        await orch.register_workflow("tick", "1.0.0", ticking())
        at = START + 10 * SECOND
        early = await orch.start("tick@1.0.0", {"n": 21}, trigger="cron", occurrence=f"cron:tick:{at}")
    clock.advance(15 * SECOND)
    async with Orchestrator(url, clock=clock) as orch:
        ticker = Ticker(orch, clock)
        await ticker.settled()
        assert [view.id for view in (await orch.executions()).items] == [early.id]


async def test_what_is_too_late_is_skipped(tmp_path: Path) -> None:
    url, clock = f"sqlite:///{tmp_path}/o.db", VirtualClock()
    async with Orchestrator(url, clock=clock) as orch:
        await orch.register_workflow("tick", "1.0.0", ticking(schedule="0 * * * *"))
        await Ticker(orch, clock).settled()
    clock.advance(5 * 3_600 * SECOND + 60 * SECOND)
    async with Orchestrator(url, clock=clock, options=Options(cron_catch_up=7_200)) as orch:
        ticker = Ticker(orch, clock)
        await ticker.settled()
        assert len(await ticker.occurrences()) == 2
        assert orch.monitor.snapshot().occurrences == {"skipped": 1, "started": 2}


async def test_an_occurrence_that_finds_the_queue_full_is_tried_again(opened: Any) -> None:
    clock = VirtualClock()
    orch = await opened(engines=0, clock=clock, options=Options(queue_limit=1))
    await orch.register_workflow("tick", "1.0.0", ticking())
    ticker = Ticker(orch, clock)
    await ticker.settled()
    await ticker.until(START + 25 * SECOND)
    assert await ticker.occurrences() == [10]
    orch.register_engine("engine-1", DAGEngine(clock=clock))
    await ticker.settled()
    await ticker.until(START + 29 * SECOND)
    assert len(await ticker.occurrences()) == 2


async def test_a_newer_version_takes_the_schedule_over(opened: Any) -> None:
    clock = VirtualClock()
    orch = await opened(clock=clock)
    await orch.register_workflow("tick", "1.0.0", ticking())
    ticker = Ticker(orch, clock)
    await ticker.settled()
    await ticker.until(START + 12 * SECOND)
    await orch.register_workflow("tick", "1.1.0", ticking("1.1.0", "*/5 * * * * *"))
    await ticker.settled()
    await ticker.until(START + 21 * SECOND)
    versions = [view.version for view in reversed((await orch.executions()).items)]
    assert versions == ["1.0.0", "1.1.0", "1.1.0"]


# --- HTTP ---


@pytest.fixture
async def hooked(opened: Any) -> Any:
    """An orchestrator with one HTTP trigger, served, and its URL."""
    orch = await opened(options=Options(trigger_wait=0.2))
    wf = Workflow(
        "greet",
        "1.0.0",
        inputs={"name": {"type": "string"}},
        outputs={"text": "{{ nodes.say }}"},
        http=HTTPTrigger(path="/hooks/greet", method="POST"),
    )
    wf.lua("say", 'return "hello " .. inputs.name')
    await orch.register_workflow("greet", "1.0.0", wf)
    async with orch.serving() as served:
        yield orch, served.url


async def test_an_http_trigger_answers_with_the_outputs(hooked: Any) -> None:
    orch, url = hooked
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/hooks/greet", json={"inputs": {"name": "Ada"}})
        assert answer.status_code == 200
        body = answer.json()
        assert (body["status"], body["outputs"]) == ("succeeded", {"text": "hello Ada"})
        assert (await client.get(body["url"])).json()["trigger"] == "http"
        again = [
            await client.post("/hooks/greet", json={"inputs": {"name": "Ada"}}, headers={"Idempotency-Key": "k"})
            for _ in range(2)
        ]
        assert again[0].json() == again[1].json()
    assert len((await orch.executions()).items) == 2


async def test_an_http_trigger_that_takes_longer_answers_with_the_execution(hooked: Any, latch: Any) -> None:
    orch, url = hooked
    document = latch.workflow().build().to_dict()
    document["spec"]["triggers"] = {"http": {"path": "/hooks/slow", "method": "PUT"}}
    await orch.register_workflow("latch", "1.0.0", latch.workflow)
    document["metadata"]["version"] = "1.0.1"
    await orch.apply(document)
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.put("/hooks/slow")
        assert answer.status_code == 202
        assert answer.headers["location"] == answer.json()["url"]
        assert answer.json()["status"] == "running"
        latch.opened.set()
        view = (await client.get(answer.json()["url"], params={"wait": "true"})).json()
        assert (view["status"], view["outputs"]) == ("succeeded", {"after": "after"})


async def test_wrong_calls_of_an_http_trigger_are_refused_and_start_nothing(hooked: Any) -> None:
    orch, url = hooked
    async with httpx.AsyncClient(base_url=url) as client:
        answers = [
            (await client.post("/hooks/greet", json={"inputs": {"name": 7}}), 422, "invalid-inputs"),
            (await client.post("/hooks/greet", json=["name"]), 400, "bad-request"),
            (await client.post("/hooks/greet?name=Ada", json={}), 400, "bad-request"),
            (await client.post("/hooks/greet", content=b"name=Ada"), 415, "unsupported-media-type"),
            (await client.put("/hooks/greet", json={}), 405, "method-not-allowed"),
            (await client.post("/hooks/other", json={}), 404, "not-found"),
        ]
    for answer, status, kind in answers:
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["type"].endswith(kind)
    assert (await orch.executions()).items == []


async def test_two_workflows_cannot_claim_one_path(hooked: Any) -> None:
    orch, _ = hooked
    rival = Workflow("rival", "1.0.0", http="/hooks/greet")
    rival.lua("say", "return 1")
    with pytest.raises(SpecError, match="/hooks/greet"):
        await orch.register_workflow("rival", "1.0.0", rival)
    assert [view.id for view in await orch.workflows()] == ["greet"]


async def test_a_trigger_goes_with_its_workflow(hooked: Any) -> None:
    orch, url = hooked
    await orch.delete_workflow("greet")
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.post("/hooks/greet", json={})).status_code == 404


async def test_of_two_workflows_registered_at_once_one_has_the_path(orch: Orchestrator) -> None:
    def claiming(id: str) -> dict[str, Any]:
        wf = Workflow(id, "1.0.0", http=HTTPTrigger(path="/hook"))
        wf.lua("a", "return 1")
        return wf.build().to_dict()

    outcomes = await asyncio.gather(
        *(orch.apply(claiming(f"w{number}")) for number in range(5)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, SpecError)]
    assert len(refused) == 4
    assert all("starts the workflow 'w0' already" in str(error) for error in refused)


async def test_a_path_that_a_removal_brings_back_to_two_is_told(orch: Orchestrator) -> None:
    def claiming(id: str, version: str, path: str) -> Workflow:
        wf = Workflow(id, version, http=HTTPTrigger(path=path))
        wf.lua("a", "return 1")
        return wf

    await orch.apply(claiming("one", "1.0.0", "/hook").build())
    await orch.apply(claiming("one", "2.0.0", "/other").build())
    await orch.apply(claiming("two", "1.0.0", "/hook").build())
    with capture_logs() as logs:
        await orch.delete_workflow("one", version="2.0.0")
        await orch.apply(claiming("three", "1.0.0", "/third").build())
    [told] = [entry for entry in logs if entry["event"] == "http_trigger_shadowed"]
    assert (told["workflow"], told["path"], told["by"]) == ("two", "/hook", "one@1.0.0")
