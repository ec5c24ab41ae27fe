"""Processes that are told to go at a bad time: before they are there, or while nobody listens to them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from real_processes import ENGINE, ORCHESTRATOR

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("command", [ENGINE, ORCHESTRATOR], ids=["engine", "orchestrator"])
async def test_one_that_reads_its_settings_still_hears_it(command: tuple[str, ...], tmp_path: Path) -> None:
    """By a handler of its own: the system's does nothing for the first process of a container."""
    settings = tmp_path / "settings.yaml"
    os.mkfifo(settings)
    process = await asyncio.create_subprocess_exec(*command, "--config", settings)
    async with asyncio.timeout(30):
        writer = await asyncio.to_thread(os.open, settings, os.O_WRONLY)  # returns once somebody reads
        try:
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 128 + signal.SIGTERM
        finally:
            os.close(writer)


async def test_an_engine_whose_orchestrator_stands_still_does_not_wait_for_it(
    site: Any, ready: Any, workflow: Any, journals: Any, soon: Any
) -> None:
    engine = await site.engine("engine-1", DRAIN_TIMEOUT="0.5")
    orchestrator = await site.orchestrator([engine.address])
    client = site.client(orchestrator)
    await ready(client, 1)
    await client.apply(workflow("job", {"a": "return 1", "b": 0.01, "c": "return nodes.b"}))

    async def under_way() -> bool:
        return len(site.performed()) == 5

    with site.held():
        started = [(await client.start("job")).id for _ in range(5)]
        await soon(under_way)
        orchestrator.freeze()
        told = time.monotonic()
        try:
            assert await engine.end() == 0
            assert time.monotonic() - told < 15
        finally:
            orchestrator.thaw()
    await site.engine("engine-1", port=engine.address.rpartition(":")[2])
    async with asyncio.timeout(30):
        views = [await client.wait(execution) for execution in started]
    assert {view.status for view in views} == {"succeeded"}
    for execution in started:
        assert journals.orphans(await journals.of(client, execution)) == ["b"]
