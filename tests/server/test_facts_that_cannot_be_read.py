"""A spool that does not give facts back breaks one execution, by a refusal; the session and the others go on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dagengine.journal.session import Budget
from dagengine.journal.spool import Spool
from dagengine.server.host import Host
from dagengine.wire.v1.session_pb2 import Refusal


async def test_an_execution_whose_facts_are_lost_here_is_handed_back(
    engine: Any, connect: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(engine, engine_id="small", version="0", budget=Budget(limit=1_000, spool=Spool(1 << 20, tmp_path)))
    peer = await connect(to=host)
    peer.start("e1")
    peer.start("e2")
    await peer.load(running=2)
    with monkeypatch.context() as broken:
        broken.setattr(os, "pread", lambda *_: b"")
        engine.runs["e1"].make(50)
        refusal = await peer.refusal()
    assert (refusal.execution, refusal.reason) == ("e1", Refusal.BROKEN)
    assert "cannot be read back from the spool" in refusal.message
    assert engine.runs["e1"].stopped
    assert engine.released == ["e1"]
    engine.runs["e2"].make(50)
    assert await peer.positions("e2", 50) == list(range(1, 51))
    host.close()
