"""A process that is killed in the middle of writing loses nothing that it was told is there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from orchestrator.store.base import Batch
from orchestrator.store.sqlite import SQLiteStore

WRITE = """
import asyncio, sys
from orchestrator.store.base import Batch, NewExecution, VersionRecord
from orchestrator.store.sqlite import SQLiteStore

async def main():
    store = SQLiteStore(sys.argv[1])
    await store.open()
    print(await store.incarnation(), flush=True)
    await store.add_version(VersionRecord(
        workflow="w", version="1.0.0", digest="d", document=b"{}", labels={}, name="", description="", registered_at=1))

    async def run(name):
        await store.create_execution(NewExecution(
            id=name, workflow="w", version="1.0.0", digest="d", inputs=b"{}", created_at=1, seed=1))
        await store.dispatch([name], "engine-1")
        seq = 1
        while True:
            facts = [b'{"at":%d}' % n for n in range(seq, seq + 7)]
            (answer,) = await store.append([Batch(execution=name, epoch=1, first_seq=seq, facts=facts)])
            assert answer.outcome == "committed"
            seq += 7
            print(name, answer.last_seq, flush=True)

    await asyncio.gather(*(run(f"e{n}") for n in range(8)))

asyncio.run(main())
"""


def test_everything_acknowledged_is_there_after_kill_9(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    process = subprocess.Popen([sys.executable, "-c", WRITE, url], stdout=subprocess.PIPE, text=True)
    acknowledged: dict[str, int] = defaultdict(int)
    with process:
        assert process.stdout is not None
        incarnation = process.stdout.readline().strip()
        for number, line in enumerate(process.stdout):
            if number == 400:
                process.kill()  # the rest of the pipe was acknowledged as well
            if line.endswith("\n"):
                name, last_seq = line.split()
                acknowledged[name] = int(last_seq)
    assert len(acknowledged) == 8
    asyncio.run(check(url, incarnation, acknowledged))


async def check(url: str, incarnation: str, acknowledged: Mapping[str, int]) -> None:
    """Every journal is a contiguous prefix, at least as long as was acknowledged, and goes on from there."""
    store = SQLiteStore(url)
    await store.open()
    assert await store.incarnation() == incarnation
    for name, seq in acknowledged.items():
        facts = await store.facts(name, limit=1_000_000)
        assert [fact.seq for fact in facts] == list(range(1, len(facts) + 1))
        assert [fact.payload for fact in facts] == [b'{"at":%d}' % fact.seq for fact in facts]
        assert len(facts) >= seq
        record = await store.execution(name)
        assert record is not None
        assert record.last_seq == len(facts)
        (answer,) = await store.append([Batch(execution=name, epoch=1, first_seq=len(facts) + 1, facts=[b"{}"])])
        assert (answer.outcome, answer.new_from) == ("committed", len(facts) + 1)
    await store.close()
