"""Executions that only wait outlive everything that has run them: an orchestrator and its engine, killed."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from typing import Any

import httpx

from dagengine.events import facts as codec

SECONDS = 12
"""Longer than what an engine waits for itself, ten seconds."""


def document(name: str, waits_for: dict[str, Any]) -> dict[str, Any]:
    nodes = [
        {"id": "before", "executor": {"type": "python", "function": "work", "args": {"seconds": 0}}},
        {"id": "wait", "dependencies": ["before"], "executor": {"type": "wait", **waits_for}},
        {"id": "after", "dependencies": ["wait"], "executor": {"type": "lua", "code": "return 1"}},
    ]
    return {"metadata": {"id": name, "version": "1.0.0"}, "spec": {"nodes": nodes}}


async def described(site: Any, server: str, execution: str) -> str:
    """What `dagctl describe` prints about an execution."""
    command = "from orchestrator.cli.dagctl import main; main()"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", command, "describe", "execution", execution),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "DAGCTL_SERVER": server, "DAGENGINE_TOKEN": site.token, "DAGCTL_CONFIG": os.devnull},
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_it_wakes_though_all_were_killed_and_the_engine_is_another(site: Any, soon: Any, ready: Any) -> None:
    first = await site.engine("first", CAPACITY="1")
    orchestrator = await site.orchestrator([first.address], MAX_QUEUED="2")
    client = site.client(orchestrator)
    await ready(client, 1)
    await client.apply(document("timer", {"duration": SECONDS}))
    await client.apply(document("sign", {"approval": {}}))
    ids = [(await client.start(name)).id for name in ("timer", "sign")]
    timer, sign = ids

    async def parked() -> bool:
        views = [await client.execution(execution) for execution in ids]
        return all(view.status == "running" and view.engine is None and view.last_seq for view in views)

    await soon(parked)
    await first.kill()
    await orchestrator.kill()

    orchestrator = await site.orchestrator([], MAX_QUEUED="2")
    client = site.client(orchestrator)
    assert await parked()
    (reason,) = (await client.why(sign, "wait")).nodes
    assert reason.code == "awaiting_approval"
    told = await described(site, orchestrator.url, sign)
    assert re.search(r"^Status: +running$", told, re.MULTILINE), told
    assert re.search(r"^ +wait +waiting ", told, re.MULTILINE), told
    # The queue is full; what wakes has a place all the same, and what is refused is told when to come again.
    queued = [(await client.start("sign")).id for _ in range(2)]
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {site.token}"}) as http:
        answer = await http.post(f"{orchestrator.url}/api/v1/workflows/sign/executions", json={})
    assert answer.status_code == 429
    assert float(answer.headers["retry-after"]) > 0
    await client.approve(sign, "wait", author="ada")
    await orchestrator.kill()

    second = await site.engine("second", CAPACITY="1")
    client = site.client(await site.orchestrator([second.address], MAX_QUEUED="2"))
    assert (await client.wait(sign, timeout=20)).status == "succeeded"
    ended = await client.wait(timer, timeout=30)
    assert (ended.status, ended.engine) == ("succeeded", "second")
    made = [codec.decode(bytes(item.fact)) for item in await client.facts(timer)]
    began = next(fact.at for fact in made if isinstance(fact, codec.NodeWaiting))
    assert ended.finished_at - began >= SECONDS * 1_000_000
    ids = queued
    await soon(parked)
    assert site.performed() == {(execution, "before"): 1 for execution in (timer, sign, *queued)}
