"""Everything is restarted one by one, as rolling updates do, while a hundred executions run and more are started."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from orchestrator.client import Client
from orchestrator.errors import TransportError, Unavailable

pytestmark = pytest.mark.e2e

EXECUTIONS = 100
CHAIN: dict[str, str | float] = {
    name: (0.4 if number % 2 else f"return {number}") for number, name in enumerate("abcdefghijklmnop")
}
"""Pure nodes and effects in turn: longer than the restart of an engine takes."""


async def _restart(site: Any, engine: Any, *, drain: str) -> Any:
    """End an engine as Kubernetes does, and start what takes its place."""
    assert await engine.end() == 0
    return await site.engine(engine.name, port=engine.address.rpartition(":")[2], CAPACITY="200", DRAIN_TIMEOUT=drain)


async def _held_against(site: Any, client: Client, journals: Any, executions: Sequence[str]) -> tuple[int, int]:
    """How many executions moved, and how many nodes were cut off: nothing else may have been performed twice."""
    effects = [name for name, what in CHAIN.items() if isinstance(what, float)]
    performed = site.performed()
    moved, cut_off = 0, 0
    for execution in executions:
        made = await journals.of(client, execution)  # among other things: each node committed once
        orphans = journals.orphans(made)
        cut_off += len(orphans)
        moved += max(view.epoch for view in await client.facts(execution)) > 1
        for node in effects:  # performed again only if it was cut off, and that was committed
            assert 1 <= performed[execution, node] <= 1 + orphans.count(node), (execution, node)
    return moved, cut_off


@pytest.mark.parametrize("drain", ["0.2", "20"], ids=["handed back", "finished"])
async def test_none_fails_and_no_committed_node_runs_again(
    site: Any, ready: Any, workflow: Any, all_of: Any, journals: Any, soon: Any, drain: str
) -> None:
    names = ("engine-1", "engine-2", "engine-3")
    engines = await asyncio.gather(*(site.engine(name, CAPACITY="200", DRAIN_TIMEOUT=drain) for name in names))
    orchestrator = await site.orchestrator([engine.address for engine in engines])
    client = site.client(orchestrator)
    await ready(client, len(engines))
    await client.apply(workflow("long", CHAIN))
    started = [(await client.start("long")).id for _ in range(EXECUTIONS)]

    async def spread() -> bool:
        return all(engine.running > 10 for engine in await client.engines())

    await soon(spread)
    for engine in engines:
        await _restart(site, engine, drain=drain)
        await ready(client, len(engines))

    ended = await all_of(client, started)
    assert {view.status for view in ended} == {"succeeded"}
    moved, cut_off = await _held_against(site, client, journals, started)
    if drain == "0.2":
        assert moved > EXECUTIONS / 2
    else:
        assert (moved, cut_off) == (0, 0)


class Door:
    """What a Kubernetes Service is to clients: one of those that are ready answers, another one if that is gone."""

    def __init__(self, site: Any) -> None:
        self.replicas: list[tuple[Any, Client]] = []
        self._site = site

    async def open(self, name: str, engines: Sequence[str], ready: Any) -> None:
        """Another replica, once it takes requests and has its engines."""
        replica = await self._site.orchestrator(engines, name=name)
        client = self._site.client(replica)
        await ready(client, len(engines))
        self.replicas.append((replica, client))

    async def close_first(self) -> None:
        """The oldest one is told to go."""
        replica, _ = self.replicas.pop(0)
        assert await replica.end() == 0

    async def ask(self, question: Callable[[Client], Awaitable[Any]]) -> Any:
        """Whoever answers."""
        async with asyncio.timeout(30):
            while True:
                for _, client in list(self.replicas):
                    try:
                        return await question(client)
                    except (TransportError, Unavailable):
                        await asyncio.sleep(0.01)


@pytest.mark.heavy
@pytest.mark.parametrize("engines_too", [False, True], ids=["orchestrators", "everything"])
async def test_nothing_is_lost_while_orchestrators_are_replaced(
    site: Any,
    ready: Any,
    workflow: Any,
    all_of: Any,
    journals: Any,
    soon: Any,
    postgres_server: Any,
    engines_too: bool,
) -> None:
    site.database = url = await asyncio.to_thread(postgres_server.url)
    names = ("engine-1", "engine-2", "engine-3")
    engines = await asyncio.gather(*(site.engine(name, CAPACITY="200", DRAIN_TIMEOUT="0.2") for name in names))
    addresses = [engine.address for engine in engines]
    door = Door(site)
    for name in ("old-1", "old-2"):
        await door.open(name, addresses, ready)
    await door.ask(lambda client: client.apply(workflow("long", CHAIN)))
    await door.ask(lambda client: client.apply(workflow("short", {"a": "return 1", "b": 0.01})))
    started: list[str] = []

    async def start(client: Client) -> None:
        started.extend([(await client.start("long")).id for _ in range(EXECUTIONS // 4)])

    for _, each in door.replicas:
        await start(each)
    done = asyncio.Event()

    async def go_on_starting(number: int) -> list[str]:
        accepted: list[str] = []
        while not done.is_set():
            key = f"key-{number}-{len(accepted)}"
            view = await door.ask(lambda client, key=key: client.start("short", idempotency_key=key))
            accepted.append(view.id)
            assert (await door.ask(lambda client, id=view.id: client.wait(id))).status == "succeeded"
        return accepted

    async def replace_orchestrators() -> None:
        for name in ("new-1", "new-2"):
            await door.open(name, addresses, ready)
            await start(door.replicas[0][1])  # the others may be about to end
            await soon(last_ones_run)  # so that going on elsewhere takes another epoch
            await door.close_first()

    async def last_ones_run() -> bool:
        views = await asyncio.gather(*(door.ask(lambda client, id=id: client.execution(id)) for id in started[-25:]))
        return all(view.status != "queued" for view in views)

    async def restart_engines() -> None:
        for engine in engines:
            again = await _restart(site, engine, drain="0.2")
            assert again.address == engine.address
            await soon(all_ready)

    async def all_ready() -> bool:
        views = await door.ask(lambda client: client.engines())
        return sum(view.state == "ready" for view in views) == len(engines)

    flow = asyncio.gather(*(go_on_starting(number) for number in range(4)))
    await asyncio.gather(replace_orchestrators(), *([restart_engines()] if engines_too else []))
    done.set()
    accepted = [execution for each in await flow for execution in each]
    assert len(accepted) > 20
    assert len(set(accepted)) == len(accepted)
    client = door.replicas[-1][1]
    assert {view.status for view in await all_of(client, started)} == {"succeeded"}
    moved, cut_off = await _held_against(site, client, journals, started)
    performed = site.performed()
    if not engines_too:  # executions go on at their engines, whoever owns them
        assert cut_off == 0
        assert {performed[execution, "b"] for execution in accepted} == {1}
    assert moved >= EXECUTIONS / 2  # each of them had another owner, or another engine
    await site.close()
    await asyncio.to_thread(postgres_server.drop, url)
