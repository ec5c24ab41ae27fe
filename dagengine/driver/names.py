"""Attempts by their names: as the machine has them, as executors have them, and as the outside knows their effects."""

from __future__ import annotations

from dagengine.executors.base import Job
from dagengine.machine.commands import Run
from dagengine.machine.state import State

__all__ = ["key_of", "run_of", "seed_of"]


def run_of(job: Job) -> Run:
    """The machine's command that a job performs."""
    return Run(job.position, -1 if job.index is None else job.index, job.attempt)


def seed_of(run: Run, seed: int) -> int:
    """The seed of one attempt (64 bits), the same whenever and wherever it runs. The multipliers are SplitMix64's."""
    mixed = (
        seed + run.node * 0x9E3779B97F4A7C15 + (run.index + 1) * 0xBF58476D1CE4E5B9 + run.attempt * 0x94D049BB133111EB
    )
    return mixed & 0xFFFFFFFFFFFFFFFF


def key_of(run: Run, state: State) -> str:
    """What names the effects of an attempt to the outside: the same as long as they may be taken for the same."""
    item = "" if run.index < 0 else f"[{run.index}]"
    generation = state.generation_of(run.node, run.index)
    return f"{state.execution}/{state.graph.nodes[run.node].id}{item}/{generation}"
