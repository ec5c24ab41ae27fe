"""Pools of engines, and executions that have an engine for themselves, with real processes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dagengine.events import facts as codec
from orchestrator.client import Client
from orchestrator.verbs import ExecutionView

pytestmark = pytest.mark.e2e


def wanting(document: dict[str, Any], **engine: Any) -> dict[str, Any]:
    """A workflow that asks for an engine."""
    document["spec"]["engine"] = engine
    return document


async def table(url: str, token: str) -> list[str]:
    """What `dagctl get engines` prints."""
    program = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("dagctl"),
        *("get", "engines", "--server", url),
        env={"DAGENGINE_TOKEN": token, "PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await program.communicate()
    return printed.decode().splitlines()


async def spans(client: Client, views: Iterable[ExecutionView]) -> dict[str, tuple[str, int, int]]:
    """Where each execution ran, and from when to when: its first and its last fact, on the engine's clock."""
    found = {}
    for view in views:
        made = [codec.decode(bytes(item.fact)) for item in await client.facts(view.id)]
        assert view.engine is not None
        found[view.id] = (view.engine, made[0].at, made[-1].at)
    return found


def beside(alone: Sequence[str], ran: dict[str, tuple[str, int, int]]) -> list[tuple[str, str]]:
    """Which executions ran beside one that was to be alone on its engine."""
    return [
        (one, other)
        for one in alone
        for other in ran
        if other != one and ran[one][0] == ran[other][0] and ran[one][1] < ran[other][2] and ran[other][1] < ran[one][2]
    ]


async def test_one_runs_alone_in_its_pool_while_others_flow_elsewhere(
    site: Any, workflow: Any, ready: Any, all_of: Any, soon: Any
) -> None:
    engines = [
        await site.engine("gpu-1", ENGINE_POOL="gpu"),
        await site.engine("cpu-1", ENGINE_LABELS="pool=cpu,zone=a"),
        await site.engine("cpu-2", ENGINE_POOL="cpu", ENGINE_LABELS="zone=b"),
    ]
    client = site.client(await site.orchestrator(engine.address for engine in engines))
    await ready(client, 3)
    await client.apply(wanting(workflow("train", {"a": 0.01, "b": "return 1"}), pool="gpu", exclusive=True))
    await client.apply(wanting(workflow("draw", {"a": 0.01}), pool="gpu"))
    await client.apply(wanting(workflow("load", {"a": 0.01}), labels={"zone": "b"}))
    await client.apply(workflow("any", {"a": "return 1"}))

    with site.held():
        training = await client.start("train")

        async def under_way() -> bool:
            return (training.id, "a") in site.performed()

        await soon(under_way)
        reserved = {engine.id: engine.reserved_for for engine in await client.engines()}
        assert reserved == {"gpu-1": training.id, "cpu-1": "", "cpu-2": ""}
        headings, *listed = await table(client.url, site.token)
        assert headings.split()[:7] == ["ID", "ADDRESS", "STATE", "POOL", "RUNNING", "RESERVED", "FOR"]
        assert [line.split()[3:6] for line in listed] == [
            ["cpu", "0/10", "-"],
            ["cpu", "0/10", "-"],
            ["gpu", "1/10", training.id],
        ]
        waiting = await client.start("draw")

        async def waits() -> bool:
            return (await client.execution(waiting.id)).waiting_on == "engines_full"

        await soon(waits)
        flowing = [await client.start("any") for _ in range(20)]
        assert {view.engine for view in await all_of(client, [view.id for view in flowing])} <= {"cpu-1", "cpu-2"}
        loading = await client.start("load")

        async def loads() -> bool:
            return (loading.id, "a") in site.performed()

        await soon(loads)
        assert (await client.execution(waiting.id)).engine is None
    views = await all_of(client, [training.id, waiting.id, loading.id])
    assert [(view.status, view.engine) for view in views] == [
        ("succeeded", "gpu-1"),
        ("succeeded", "gpu-1"),
        ("succeeded", "cpu-2"),
    ]
    assert beside([training.id], await spans(client, views)) == []


async def test_two_replicas_that_place_at_once_never_put_two_together(
    site: Any, workflow: Any, ready: Any, all_of: Any, postgres_server: Any
) -> None:
    site.database = url = await asyncio.to_thread(postgres_server.url)
    names = ("engine-1", "engine-2", "engine-3")
    engines = await asyncio.gather(*(site.engine(name, CAPACITY="4") for name in names))
    replicas = [await site.orchestrator([engine.address for engine in engines], name=name) for name in ("l", "r")]
    clients = [site.client(replica) for replica in replicas]
    for client in clients:
        await ready(client, 3)
    await clients[0].apply(wanting(workflow("alone", {"a": 0.05, "b": "return 1"}), exclusive=True))
    await clients[0].apply(workflow("shared", {"a": 0.02, "b": "return 1"}))

    # A stream of both kinds at both of them: so much that no engine would ever be empty by itself.
    async def stream(client: Client) -> tuple[list[str], list[str]]:
        kinds: tuple[list[str], list[str]] = ([], [])
        for turn in range(60):
            kind = turn % 5 == 0
            kinds[not kind].append((await client.start("alone" if kind else "shared")).id)
        return kinds

    kinds = await asyncio.gather(*(stream(client) for client in clients))
    alone = [execution for kind, _ in kinds for execution in kind]
    views = await all_of(clients[0], [execution for kind in kinds for each in kind for execution in each])
    assert {view.status for view in views} == {"succeeded"}
    ran = await spans(clients[1], views)
    assert len(alone) == 24
    assert beside(alone, ran) == []
    assert {engine for engine, _, _ in ran.values()} == set(names)
    assert set(site.performed().values()) == {1}
    await site.close()
    await asyncio.to_thread(postgres_server.drop, url)


async def test_one_replica_with_exclusive_executions_alone_does_not_shut_the_other_out(
    site: Any, workflow: Any, ready: Any, all_of: Any, postgres_server: Any
) -> None:
    """Of a fleet of one: the first replica always has a few that wait to have the engine for themselves."""
    site.database = url = await asyncio.to_thread(postgres_server.url)
    engine = await site.engine("engine-1")
    replicas = [await site.orchestrator([engine.address], name=name) for name in ("l", "r")]
    left, right = (site.client(replica) for replica in replicas)
    await ready(left, 1)
    await ready(right, 1)
    await left.apply(wanting(workflow("alone", {"a": 0.02, "b": "return 1"}), exclusive=True))
    await left.apply(workflow("shared", {"a": "return 1"}))
    over = asyncio.Event()

    async def stream() -> list[str]:
        started = []
        while not over.is_set():
            started.append((await left.start("alone")).id)
            await left.wait(started[-1])
        return started

    streams = asyncio.gather(*(stream() for _ in range(5)))
    try:
        shared = await all_of(right, [(await right.start("shared")).id for _ in range(3)])
    finally:
        over.set()
        alone = [execution for each in await streams for execution in each]
    assert {view.status for view in shared} == {"succeeded"}
    views = await all_of(left, alone)
    assert {view.status for view in views} == {"succeeded"}
    assert beside(alone, await spans(right, [*views, *shared])) == []
    await site.close()
    await asyncio.to_thread(postgres_server.drop, url)


async def test_a_replica_that_takes_over_keeps_the_engine_reserved(
    site: Any, workflow: Any, ready: Any, all_of: Any, soon: Any, postgres_server: Any
) -> None:
    site.database = url = await asyncio.to_thread(postgres_server.url)
    engine = await site.engine("engine-1")
    replicas = [await site.orchestrator([engine.address], name=name) for name in ("l", "r")]
    left, right = (site.client(replica) for replica in replicas)
    await ready(left, 1)
    await ready(right, 1)
    await left.apply(wanting(workflow("alone", {"a": 0.01, "b": "return 1"}), exclusive=True))
    await left.apply(workflow("shared", {"a": "return 1"}))
    with site.held():
        alone = await left.start("alone")

        async def under_way() -> bool:
            return (alone.id, "a") in site.performed()

        await soon(under_way)
        await replicas[0].kill()
        waiting = await right.start("shared")

        async def taken_over() -> bool:
            rows = await asyncio.to_thread(postgres_server.sql, url, "SELECT DISTINCT owner FROM executions")
            return len(rows) == 1 and rows[0][0] is not None

        await soon(taken_over)
        [view] = await right.engines()
        assert (view.reserved_for, view.running) == (alone.id, 1)
        assert (await right.execution(waiting.id)).waiting_on == "engines_full"
    views = await all_of(right, [alone.id, waiting.id])
    assert {view.status for view in views} == {"succeeded"}
    assert beside([alone.id], await spans(right, views)) == []
    assert set(site.performed().values()) == {1}
    await site.close()
    await asyncio.to_thread(postgres_server.drop, url)
