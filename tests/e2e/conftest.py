"""Real processes. pytest imports test files alone: the folder of the modules about them is put on the path here."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import prometheus_client.parser
import pytest

from orchestrator.verbs import ExecutionView, Verbs

sys.path.append(str(Path(__file__).parent))

from real_journals import Journals
from real_processes import Line, Process, Site

T = TypeVar("T")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    yield site
    await site.close()


@pytest.fixture
async def line() -> AsyncIterator[Callable[[str], Awaitable[Line]]]:
    """`await line(address)`: a proxy before that address."""
    lines: list[Line] = []

    async def make(target: str) -> Line:
        made = Line(target)
        lines.append(made)
        await made.open()
        return made

    yield make
    for made in lines:
        await made.close()


@pytest.fixture
def journals() -> Journals:
    return Journals()


@pytest.fixture(scope="session")
def workflow() -> Callable[..., dict[str, Any]]:
    """`workflow("id", {"a": "return 1", "b": 0.5})`: nodes in a row, Lua code or seconds of an effect."""

    def make(id: str, nodes: dict[str, str | float], **metadata: Any) -> dict[str, Any]:
        retry = {"error": {"max_attempts": 5, "backoff": {"initial": "10ms"}}}
        made: list[dict[str, Any]] = []
        for name, what in nodes.items():
            executor = (
                {"type": "lua", "code": what}
                if isinstance(what, str)
                else {"type": "python", "function": "work", "args": {"seconds": what}}
            )
            before = [made[-1]["id"]] if made else []
            made.append({"id": name, "dependencies": before, "executor": executor, "retry": retry})
        return {"metadata": {"id": id, "version": "1.0.0", **metadata}, "spec": {"nodes": made}}

    return make


@pytest.fixture
def soon() -> Callable[..., Awaitable[Any]]:
    """`await soon(question)`: ask other processes until they give an answer that counts as yes."""

    async def ask(question: Callable[[], Awaitable[T]]) -> T:
        async with asyncio.timeout(30):
            while not (answer := await question()):  # noqa: ASYNC110 - other processes set no events here
                await asyncio.sleep(0.01)
            return answer

    return ask


@pytest.fixture
def metric(site: Site) -> Callable[..., Awaitable[float]]:
    """`await metric(orchestrator, "name_total", reason="x")`: the value of one series."""

    async def read(orchestrator: Process, name: str, **labels: str) -> float:
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {site.token}"}) as client:
            text = (await client.get(f"{orchestrator.url}/metrics")).text
        families = prometheus_client.parser.text_string_to_metric_families(text)
        samples = [sample for family in families for sample in family.samples]
        (value,) = [sample.value for sample in samples if (sample.name, sample.labels) == (name, labels)]
        return value

    return read


@pytest.fixture
def ready(soon: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[None]]:
    """`await ready(client, count)`: that many engines are connected and take work."""

    async def wait(verbs: Verbs, count: int) -> None:
        async def connected() -> bool:
            return sum(engine.state == "ready" for engine in await verbs.engines()) == count

        await soon(connected)

    return wait


@pytest.fixture
def all_of() -> Callable[[Verbs, Iterable[str]], Awaitable[list[ExecutionView]]]:
    """`await all_of(client, ids)`: the executions once all have ended."""

    async def wait(verbs: Verbs, executions: Iterable[str]) -> list[ExecutionView]:
        async with asyncio.timeout(60):
            return list(await asyncio.gather(*(verbs.wait(execution) for execution in executions)))

    return wait
