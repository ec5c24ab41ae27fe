"""Two orchestrators over one PostgreSQL: any of them takes any request, and either may die."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from dagengine.events import facts as codec
from orchestrator.client import Client
from orchestrator.defaults import REPLICA_LEASE
from orchestrator.errors import Unavailable

pytestmark = pytest.mark.e2e

TAKEOVER = 10.0
"""Seconds in which the executions of a replica that was killed have another owner, with the default lease."""


@dataclass(slots=True, kw_only=True)
class Pair:
    """Two replicas, `left` and `right`, over one database, and two engines."""

    site: Any
    server: Any
    url: str
    engines: list[Any]
    replicas: dict[str, Any]
    clients: dict[str, Client]

    @property
    def left(self) -> Client:
        return self.clients["left"]

    @property
    def right(self) -> Client:
        return self.clients["right"]

    async def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What the database itself says."""
        rows: list[tuple[Any, ...]] = await asyncio.to_thread(self.server.sql, self.url, statement, *parameters)
        return rows

    async def owned(self) -> dict[str | None, int]:
        """How many executions that have not ended each replica owns, by its name; None: nobody."""
        return dict(
            await self.rows(
                "SELECT replicas.name, count(*) FROM executions LEFT JOIN replicas ON replicas.id = executions.owner "
                "WHERE executions.finished_at IS NULL GROUP BY replicas.name"
            )
        )


@pytest.fixture
async def pair(site: Any, ready: Any, postgres_server: Any) -> AsyncIterator[Pair]:
    url = await asyncio.to_thread(postgres_server.url)
    site.database = url
    engines = list(await asyncio.gather(*(site.engine(name, CAPACITY="200") for name in ("engine-1", "engine-2"))))
    names = ("left", "right")
    addresses = [engine.address for engine in engines]
    replicas = dict(zip(names, [await site.orchestrator(addresses, name=name) for name in names], strict=True))
    clients = {name: site.client(replica) for name, replica in replicas.items()}
    for client in clients.values():
        await ready(client, 2)
    yield Pair(site=site, server=postgres_server, url=url, engines=engines, replicas=replicas, clients=clients)
    await site.close()
    await asyncio.to_thread(postgres_server.drop, url)


class Load:
    """Clients that start one execution after the other at one replica, and wait for each."""

    def __init__(self, client: Client, workflow: str, *, clients: int) -> None:
        self.started: dict[str, str] = {}
        """Executions that were accepted, by their key."""
        self.errors: list[Exception] = []
        self._client = client
        self._workflow = workflow
        self._over = asyncio.Event()
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(clients)]

    async def stop(self) -> None:
        """No more are started; those that were are waited for."""
        self._over.set()
        await asyncio.gather(*self._tasks)

    async def _run(self, client: int) -> None:
        turn = 0
        while not self._over.is_set():
            turn += 1
            key = f"{self._client.url}-{client}-{turn}"
            try:
                view = await self._client.start(self._workflow, idempotency_key=key)
                self.started[key] = view.id
                await self._client.wait(view.id)
            except Exception as exc:
                self.errors.append(exc)
                return


async def test_what_a_killed_replica_owned_goes_on_at_the_other(
    pair: Pair, workflow: Any, journals: Any, all_of: Any, soon: Any
) -> None:
    await pair.left.apply(workflow("job", {"a": "return 1", "b": 0.2, "c": "return nodes.b", "d": 0.2}))
    await pair.left.apply(workflow("long", {"a": "return 1", "b": 1.0, "c": 1.0, "d": "return nodes.c"}))
    dying = Load(pair.left, "job", clients=10)
    living = Load(pair.right, "job", clients=10)

    async def busy() -> bool:
        return min(len(dying.started), len(living.started)) > 30

    await soon(busy)
    slow = [(await pair.left.start("long")).id for _ in range(10)]
    loop = asyncio.get_running_loop()
    killed = loop.time()
    await pair.replicas["left"].kill()

    async def taken_over() -> bool:
        owned = await pair.owned()
        return "left" not in owned and None not in owned

    await soon(taken_over)
    took = loop.time() - killed
    assert took < TAKEOVER
    views = await all_of(pair.right, [*slow, *dying.started.values()])
    await asyncio.gather(dying.stop(), living.stop())

    assert living.errors == []
    assert len(dying.errors) == 10
    views += await all_of(pair.right, living.started.values())
    assert {view.status for view in views} == {"succeeded"}
    # Whoever does not know whether its start was accepted asks again, with the same key, and gets what there is.
    assert [(await pair.right.start("job", idempotency_key=key)).id for key in dying.started] == list(
        dying.started.values()
    )
    for view in views:
        made = await journals.of(pair.right, view.id)
        assert journals.orphans(made) == []
    effects = pair.site.performed()
    assert set(effects.values()) == {1}
    assert effects.keys() >= {(view.id, "b") for view in views}


async def test_a_replica_that_is_told_to_go_hands_over_at_once(
    pair: Pair, workflow: Any, journals: Any, all_of: Any, soon: Any
) -> None:
    await pair.left.apply(workflow("job", {"a": "return 1", "b": 0.5, "c": "return nodes.b"}))

    async def under_way() -> bool:
        return len(pair.site.performed()) == 20

    async def taken_over() -> bool:
        return await pair.owned() == {"right": 20}

    with pair.site.held():
        started = [(await pair.left.start("job")).id for _ in range(20)]
        await soon(under_way)
        assert await pair.owned() == {"left": 20}
        assert await pair.replicas["left"].end(signal.SIGTERM) == 0
        gone = time.monotonic()
        assert "left" not in await pair.owned()  # it gave them up itself: nobody waits for its lease to end
        await soon(taken_over)
        assert time.monotonic() - gone < REPLICA_LEASE
    views = await all_of(pair.right, started)
    assert {view.status for view in views} == {"succeeded"}
    for view in views:
        assert journals.orphans(await journals.of(pair.right, view.id)) == []
    assert set(pair.site.performed().values()) == {1}


async def test_any_replica_takes_any_request(pair: Pair, workflow: Any, soon: Any) -> None:
    left, right = pair.left, pair.right
    approval = {"id": "sign", "dependencies": ["go"], "executor": {"type": "wait", "approval": {"who": ["ada"]}}}
    signal_ = {"id": "go", "executor": {"type": "wait", "signal": {"name": "go"}}}
    last = {"id": "last", "dependencies": ["sign"], "executor": {"type": "lua", "code": "return 7"}}
    document = {
        "metadata": {"id": "job", "version": "1.0.0"},
        "spec": {"nodes": [signal_, approval, last], "outputs": {"last": "{{ nodes.last }}"}},
    }
    assert (await left.apply(document)).created
    assert not (await right.apply(document)).created
    assert (await right.workflow("job")).version == "1.0.0"

    view = await left.start("job", idempotency_key="one")
    assert (await right.start("job", idempotency_key="one")).id == view.id
    assert [item.id for item in (await right.executions()).items] == [view.id]

    async def waits_for(code: str) -> None:
        async def says() -> bool:
            return any(reason.code == code for reason in (await right.why(view.id)).nodes)

        await soon(says)

    followed: list[str] = []

    async def follow() -> None:
        followed.extend([type(codec.decode(bytes(item.fact))).__name__ async for item in right.events(view.id)])

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(follow())
        waiting = group.create_task(right.wait(view.id))
        await waits_for("awaiting_signal")
        await right.pause(view.id)
        await right.signal(view.id, "go", {"n": 1})
        await right.resume(view.id)
        await waits_for("awaiting_approval")
        assert {node.id: node.state for node in await right.nodes(view.id)}["go"] == "succeeded"
        await right.approve(view.id, "sign", author="ada")
    ended = waiting.result()
    assert (ended.status, ended.outputs) == ("succeeded", {"last": 7})
    assert followed == [type(codec.decode(bytes(item.fact))).__name__ for item in await left.facts(view.id)]
    assert followed[-1] == "ExecutionSucceeded"

    receipt = await right.retry(view.id, nodes=["last"])
    again = await left.wait(view.id, timeout=20)
    assert again.status == "succeeded"
    reruns = [codec.decode(bytes(item.fact)) for item in await left.facts(view.id)]
    assert [fact.command for fact in reruns if isinstance(fact, codec.RerunRequested)] == [receipt.command]

    other = await left.start("job")
    await right.cancel(other.id, reason="wrong day")
    ended = await left.wait(other.id, timeout=20)
    assert (ended.status, ended.reason) == ("cancelled", "wrong day")


async def test_a_replica_that_stood_still_comes_back_as_another(
    pair: Pair, workflow: Any, journals: Any, all_of: Any, soon: Any
) -> None:
    """Its lease was ended meanwhile: it owns nothing any more, says so to nobody's harm, and goes on."""
    await pair.left.apply(workflow("job", {"a": "return 1", "b": 0.3, "c": "return nodes.b", "d": 0.3}))
    started = [(await pair.left.start("job", idempotency_key=f"k{number}")).id for number in range(20)]
    frozen = pair.replicas["left"]
    ids = {name: id for id, name in await pair.rows("SELECT id, name FROM replicas")}
    frozen.freeze()
    try:

        async def taken_over() -> bool:
            return "left" not in await pair.owned()

        await soon(taken_over)
        views = await all_of(pair.right, started)
    finally:
        frozen.thaw()

    async def back() -> bool:
        return {name for _, name in await pair.rows("SELECT id, name FROM replicas")} == {"left", "right"}

    await soon(back)
    assert dict(await pair.rows("SELECT name, id FROM replicas"))["left"] != ids["left"]
    again = [(await pair.left.start("job", idempotency_key=f"k{number}")).id for number in range(20)]
    assert again == started
    views += await all_of(pair.left, [(await pair.left.start("job")).id for _ in range(5)])
    assert {view.status for view in views} == {"succeeded"}
    for view in views:
        assert journals.orphans(await journals.of(pair.left, view.id)) == []
    assert set(pair.site.performed().values()) == {1}


async def test_a_replica_that_lost_its_database_loses_nothing_else(
    pair: Pair, line: Any, workflow: Any, journals: Any, all_of: Any, soon: Any
) -> None:
    """It says that it can do nothing, while the other one goes on with what it had; then it is there again."""
    address = pair.url.partition("@")[2].partition("/")[0]
    wire = await line(address)
    far = await pair.site.orchestrator(
        [engine.address for engine in pair.engines], name="far", DATABASE_URL=pair.url.replace(address, wire.address)
    )
    client = pair.site.client(far)
    await client.apply(workflow("job", {"a": "return 1", "b": 0.3, "c": "return nodes.b", "d": 0.3}))
    started = [(await client.start("job", idempotency_key=f"k{number}")).id for number in range(20)]
    wire.down()

    async def taken_over() -> bool:
        return "far" not in await pair.owned()

    await soon(taken_over)
    views = await all_of(pair.right, started)
    with pytest.raises(Unavailable):
        await client.start("job")
    wire.up()

    async def asked_again() -> list[str]:
        with contextlib.suppress(Unavailable):  # not all of its connections are back at once
            return [(await client.start("job", idempotency_key=f"k{number}")).id for number in range(25)]
        return []

    answered = await soon(asked_again)
    assert answered[:20] == started
    views += await all_of(pair.right, answered[20:])
    assert {view.status for view in views} == {"succeeded"}
    for view in views:
        assert journals.orphans(await journals.of(pair.right, view.id)) == []
    assert set(pair.site.performed().values()) == {1}


async def test_a_replica_whose_database_stalls_goes_when_it_is_told_to(
    pair: Pair, line: Any, workflow: Any, all_of: Any, soon: Any
) -> None:
    """Nothing answers, and nothing breaks: it leaves what it has to its lease, and is gone before it is killed."""
    address = pair.url.partition("@")[2].partition("/")[0]
    wire = await line(address)
    far = await pair.site.orchestrator(
        [engine.address for engine in pair.engines],
        name="far",
        DATABASE_URL=pair.url.replace(address, wire.address),
        SHUTDOWN_TIMEOUT="2",
    )
    client = pair.site.client(far)
    await client.apply(workflow("job", {"a": "return 1", "b": 0.3, "c": "return nodes.b"}))
    started = [(await client.start("job")).id for _ in range(10)]
    wire.stall()
    asked = asyncio.create_task(client.start("job"))  # a request under way, which nobody will answer
    told = time.monotonic()
    assert await far.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert time.monotonic() - told < 20
    with pytest.raises(Unavailable, match="is stopping"):
        await asked
    views = await all_of(pair.right, started)
    assert {view.status for view in views} == {"succeeded"}
    assert set(pair.site.performed().values()) == {1}


async def test_there_is_one_leader_at_a_time(pair: Pair, soon: Any) -> None:
    """Cron runs at the leader alone: each occurrence is started once, also when the leader dies."""
    document = {
        "metadata": {"id": "tick", "version": "1.0.0"},
        "spec": {
            "nodes": [{"id": "a", "executor": {"type": "lua", "code": "return 1"}}],
            "triggers": {"cron": {"schedule": "* * * * * *"}},
        },
    }
    await pair.right.apply(document)

    async def ticked(times: int) -> None:
        async def enough() -> bool:
            return (await pair.rows("SELECT count(*) FROM executions WHERE \"trigger\" = 'cron'"))[0][0] >= times

        await soon(enough)

    await ticked(3)
    leaders = await pair.rows("SELECT replicas.name FROM leases JOIN replicas ON replicas.id = leases.holder")
    assert len(leaders) == 1
    dying = leaders[0][0]
    (living,) = set(pair.clients) - {dying}
    before = (await pair.rows("SELECT count(*) FROM executions"))[0][0]
    await pair.replicas[dying].kill()
    await ticked(before + 3)
    leaders = await pair.rows("SELECT replicas.name FROM leases JOIN replicas ON replicas.id = leases.holder")
    assert leaders == [(living,)]
    occurrences = [one for (one,) in await pair.rows("SELECT occurrence FROM executions WHERE \"trigger\" = 'cron'")]
    assert len(set(occurrences)) == len(occurrences)
    await pair.clients[living].delete_workflow("tick", force=True)
