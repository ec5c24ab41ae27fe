"""Journals of the scenarios in `tests/scenarios`: what machines made while each of them was played."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

SCENARIOS = Path(__file__).parents[1] / "scenarios"
sys.path.append(str(SCENARIOS))

import scenario_script  # noqa: E402 - it lives in the folder of the scenarios
from scenario_play import SEED, Play  # noqa: E402 - the same
from scenario_stage import Stage  # noqa: E402 - the same

from dagengine.events import facts  # noqa: E402 - after those
from orchestrator.history import lines  # noqa: E402 - the same
from orchestrator.reports import FORMAT, JournalHeader  # noqa: E402 - the same
from orchestrator.verbs import FactView  # noqa: E402 - the same

_CRASH = re.compile(r"(?:(\w+): )?crash(?: after (\d+) facts)?")


async def play_all() -> AsyncIterator[tuple[str, bytes]]:
    """Name and journal of each execution of each scenario that has machines without a driver."""
    for path in sorted(SCENARIOS.glob("*.txt")):
        script = scenario_script.read(path.read_text())
        if script.setting.get("journal"):
            continue
        for name, content in await _played(script):
            yield f"{path.stem}-{name}" if name else path.stem, content


async def _played(script: Any) -> list[tuple[str, bytes]]:
    stage = Stage(script)
    epochs: dict[str, list[int]] = {}
    try:
        for done, _, _ in script.scenes:
            await stage.perform(done)
            crash = _CRASH.fullmatch(done)
            for play in stage.plays.values():
                known = epochs.setdefault(play.name, [])
                epoch = known[-1] if known else 1
                if crash is not None and crash[1] in (None, play.name):
                    del known[len(known) if crash[2] is None else int(crash[2]) :]
                    epoch += 1
                known += [epoch] * (len(play.facts) - len(known))
    finally:
        await stage.close()
    return [(name, _journal(play, epochs[name])) for name, play in stage.plays.items() if play.facts]


def _journal(play: Play, epochs: list[int]) -> bytes:
    document, state = play.graph.document, play.machine.state
    header = JournalHeader(
        format=FORMAT,
        release=metadata.version("dagengine"),
        execution=play.execution,
        workflow=document.id,
        version=document.version,
        digest=document.digest,
        status="queued" if state.status == "new" else state.status,
        seed=SEED,
        epoch=epochs[-1],
        last_seq=len(play.facts),
        created_at=play.facts[0].at,
        started_at=play.facts[0].at,
        finished_at=play.facts[-1].at if state.ended else None,
        priority=play.priority,
        inputs=msgspec.Raw(play.inputs),
        document=msgspec.Raw(document.canonical),
    )
    entries = [
        FactView(seq=seq, epoch=epoch, fact=msgspec.Raw(facts.encode(fact)))
        for seq, (epoch, fact) in enumerate(zip(epochs, play.facts, strict=True), 1)
    ]
    return b"".join(map(lines.encode, [header, *entries]))
