"""What an orchestrator finds in its store when it opens, and deals with before anybody can ask it for anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dagengine import Workflow
from dagengine.machine import operations
from orchestrator import Orchestrator
from orchestrator.store.base import InboxItem
from orchestrator.store.sqlite import SQLiteStore


async def test_what_was_cancelled_while_no_engine_had_it_any_more_ends_when_it_is_opened(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/orchestrator.db"
    workflow = Workflow("once", "1.0.0")
    workflow.lua("a", "return 1")
    async with Orchestrator(url) as orch:
        await orch.register_workflow("once", "1.0.0", workflow)
        view = await orch.start("once")
    store = SQLiteStore(url)
    await store.open()
    await store.join("former", name="former", lease=1_000_000)
    await store.claim(now=view.created_at, limit=1, keyed=False)
    record = (await store.dispatch([view.id], "engine-1"))[view.id]
    await store.release(view.id, record.epoch)
    cancel = operations.encode(operations.Cancel(author="ada"))
    item = InboxItem(id="c-1", execution=view.id, kind="cancel", payload=cancel, created_at=view.created_at)
    assert await store.add_inbox(item)
    await store.close()
    async with asyncio.timeout(20), Orchestrator(url) as orch:
        assert (await orch.wait(view.id, timeout=10.0)).status == "cancelled"
