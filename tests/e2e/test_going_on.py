"""Executions that go on after their end, over real processes: engines die, orchestrators come back."""

from __future__ import annotations

from typing import Any

from dagengine.events import facts as codec

DOCUMENT: dict[str, Any] = {
    "metadata": {"id": "sign", "version": "1.0.0"},
    "spec": {
        "outputs": {"by": "{{ nodes.sign.by }}"},
        "nodes": [
            {"id": "load", "executor": {"type": "python", "function": "work", "args": {"seconds": 0}}},
            {"id": "sign", "dependencies": ["load"], "executor": {"type": "wait", "approval": {"who": ["ada"]}}},
        ],
    },
}


async def test_a_retry_outlives_its_engine_and_its_orchestrator(site: Any, soon: Any, ready: Any) -> None:
    first = await site.engine("first")
    orchestrator = await site.orchestrator([first.address])
    client = site.client(orchestrator)
    await ready(client, 1)
    await client.apply(DOCUMENT)
    view = await client.start("sign")

    async def waits() -> bool:
        return any(reason.code == "awaiting_approval" for reason in (await client.why(view.id, "sign")).nodes)

    await soon(waits)
    await client.reject(view.id, "sign", author="ada")
    assert (await client.wait(view.id, timeout=20)).status == "failed"
    await first.kill()
    receipt = await client.retry(view.id, author="ada")
    assert (await client.execution(view.id)).finished_at is None
    await orchestrator.kill()

    second = await site.engine("second")
    client = site.client(await site.orchestrator([second.address]))
    await soon(waits)
    await client.approve(view.id, "sign", author="ada")
    ended = await client.wait(view.id, timeout=20)
    assert (ended.status, ended.engine) == ("succeeded", "second")
    assert ended.outputs == {"by": [{"author": "ada", "reason": ""}]}
    made = [codec.decode(bytes(item.fact)) for item in await client.facts(view.id)]
    (rerun,) = [fact for fact in made if isinstance(fact, codec.RerunRequested)]
    assert (rerun.command, rerun.author, rerun.nodes) == (receipt.command, "ada", ("sign",))
    assert site.performed() == {(view.id, "load"): 1}
    assert [one.outcome for one in await client.attempts(view.id, "sign")] == ["fail", "success"]


async def test_what_was_asked_while_nobody_was_there_is_done_in_order(site: Any, soon: Any, ready: Any) -> None:
    orchestrator = await site.orchestrator([])
    client = site.client(orchestrator)
    await client.apply(DOCUMENT)
    view = await client.start("sign")
    asked = [await client.pause(view.id, node="load"), await client.skip(view.id, "load", result=1)]
    assert (await client.why(view.id)).waiting_on in (None, "no_engine")
    await orchestrator.kill()
    engine = await site.engine("late")
    client = site.client(await site.orchestrator([engine.address]))

    async def answered() -> bool:
        return len(await cited()) == 2

    async def cited() -> list[codec.Operation]:
        made = [codec.decode(bytes(item.fact)) for item in await client.facts(view.id)]
        return [fact for fact in made if isinstance(fact, codec.Operation)]

    await soon(answered)
    assert [(type(fact).__name__, fact.command) for fact in await cited()] == [
        ("Paused", asked[0].command),
        ("NodeOverridden", asked[1].command),
    ]
    await client.terminate(view.id)
    assert (await client.wait(view.id, timeout=20)).status == "cancelled"
