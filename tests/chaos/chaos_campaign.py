"""A campaign: round after round over one living system, each with fifty executions and one fault, each checked.

Everything that is chosen comes from the seed; what happens at which moment of the system's own work does not, so a seed
that failed once may have to be run some more times.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from chaos_databases import disorder
from chaos_faults import Fault, deck
from chaos_oracle import Effect, Story, effects_of, wrong_with
from chaos_system import System
from chaos_work import DOCUMENTS, Job, jobs

from dagengine.graph import compile_document
from dagengine.spec.model import Document
from orchestrator.errors import Conflict, StoreError, TransportError, Unavailable
from orchestrator.verbs import ExecutionView, FactView

__all__ = ["Campaign", "BrokenPromise"]

T = TypeVar("T")

_PATIENCE: Final = 60.0
"""Seconds after which a round in which something has not ended has failed."""
_PAUSE: Final = 0.05
_WHILE: Final = 1.5
"""Seconds for which events are watched at one orchestrator: one that is dead would be waited for much longer."""
_MOST_TOLD: Final = 20
_NO_ANSWER: Final = (TransportError, Unavailable, StoreError)
"""Nobody is there, or nobody is able to do it now: ask again."""


class BrokenPromise(AssertionError):  # noqa: N818 - what it is called when somebody does not do as they said
    """A promise was not kept. The message tells the round, what was wrong, the story, and where the logs are."""


class Campaign:
    """Rounds over `system`, by `seed`: so many, or a few (None). `tell(text)` reports progress."""

    def __init__(self, system: System, *, seed: int, rounds: int | None, tell: Callable[[str], None]) -> None:
        self._system = system
        self._seed = seed
        self._faults = deck(random.Random(seed), rounds, server=system.database.server)
        self._tell = tell
        self._graphs = {
            document["metadata"]["id"]: compile_document(Document.model_validate(document)) for document in DOCUMENTS
        }
        self._span = 1.0
        """Seconds that a round takes when nothing is broken."""
        self._shown: dict[str, list[FactView]] = {}
        """What those who watch an execution have seen of it."""
        self._known: set[str] = set()
        """Executions of rounds that are over."""

    async def run(self) -> None:
        """All rounds. Raises BrokenPromise at the first one that goes wrong."""
        for document in DOCUMENTS:
            await self._certain(lambda document=document: self._system.client.apply(document))
        await self._round(0, None)
        for number, fault in enumerate(self._faults, 1):
            await self._round(number, fault)
        await self._system.stop()
        if wrong := await disorder(self._system.database):
            raise self._failure(len(self._faults), None, wrong)

    async def _round(self, number: int, fault: Fault | None) -> None:
        began = time.monotonic()
        rng = random.Random(f"{self._seed}/{number}")
        strikes = rng.uniform(0.02, self._span)
        given = jobs(rng, f"{self._seed}-{number}", within=self._span / 2)
        started: dict[Job, str] = {}
        try:
            async with asyncio.timeout(_PATIENCE), asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._job(job, started)) for job in given]
                if fault is not None:
                    await asyncio.sleep(strikes)
                    await fault.strike(self._system, rng)
            took = time.monotonic() - began
            await self._system.start_missing()
        except TimeoutError:
            raise self._failure(number, fault, await self._unfinished(given, started)) from None
        except ExceptionGroup as group:
            wrong = [f"{type(each).__name__}: {each}" for each in group.exceptions]
            raise self._failure(number, fault, wrong) from group
        if fault is None:
            self._span = took
        await self._check(number, fault, dict(zip(given, (task.result() for task in tasks), strict=True)))
        name = "nothing" if fault is None else f"{fault.name} at {strikes:.2f} s"
        whole = time.monotonic() - began
        self._tell(f"round {number:3} of {len(self._faults)}  {name:36} {took:5.2f} s, {whole:5.2f} s with checks")

    async def _job(self, job: Job, started: dict[Job, str]) -> ExecutionView:
        """Start an execution, send it what it waits for, and see its end, whoever is dead meanwhile."""
        system, inputs = self._system, {"n": job.n}
        await asyncio.sleep(job.starts)
        view = await self._certain(lambda: system.client.start(job.workflow, inputs, idempotency_key=job.key))
        started[job] = view.id
        if job.workflow == "waiting":
            await asyncio.sleep(job.signals)
            await self._signal(view.id)
        if job.follows:
            self._shown[view.id] = await self._follow(view.id)
        return await self._certain(lambda: system.client.wait(view.id))

    async def _follow(self, execution: str) -> list[FactView]:
        """The events of an execution up to its end, watched for a while at one orchestrator, then at another."""
        shown: list[FactView] = []
        while True:
            with contextlib.suppress(TimeoutError, *_NO_ANSWER):
                async with asyncio.timeout(_WHILE):
                    async for item in self._system.client.events(execution, after=len(shown)):
                        shown.append(item)  # noqa: PERF401 - what came before a cut was seen
                return shown

    async def _signal(self, execution: str) -> None:
        """One whose receipt was lost is sent again; the second may find nobody who waits, or that all has ended."""
        lost = False
        while True:
            try:
                await self._system.client.signal(execution, "paid", {"by": "ada"})
                return
            except _NO_ANSWER:
                lost = True
                await asyncio.sleep(_PAUSE)
            except Conflict:
                if lost:
                    return
                raise

    async def _certain(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer."""
        while True:
            try:
                return await ask()
            except _NO_ANSWER:
                await asyncio.sleep(_PAUSE)

    async def _check(self, number: int, fault: Fault | None, ended: dict[Job, ExecutionView]) -> None:
        effects: defaultdict[str, list[Effect]] = defaultdict(list)
        for effect in effects_of(self._system.effects()):
            effects[effect.execution].append(effect)
        accepted = {view.id for view in ended.values()}
        wrong = [
            f"{effects[id]} belong to no execution that was accepted" for id in effects.keys() - accepted - self._known
        ]
        if len(accepted) != len(ended):
            wrong.append("one execution was the answer to several starts")
        listed = {view.id for view in (await self._certain(lambda: self._system.client.executions(limit=100))).items}
        if listed - self._known != accepted:
            wrong.append(
                f"accepted {sorted(accepted - listed)} are not listed, {sorted(listed - accepted)} are too much"
            )
        for job, view in ended.items():
            journal = await self._certain(lambda id=view.id: self._system.client.facts(id))
            shown = self._shown.pop(view.id, None)
            story = Story(job=job, view=view, journal=journal, effects=effects[view.id], shown=shown)
            if faults := wrong_with(story, self._graphs[job.workflow]):
                wrong += [*faults, story.told()]
        self._known |= accepted
        if wrong:
            raise self._failure(number, fault, wrong)

    async def _unfinished(self, given: list[Job], started: dict[Job, str]) -> list[str]:
        told = [f"{job} was never accepted" for job in given if job not in started]
        effects = effects_of(self._system.effects())
        client = self._system.client
        try:
            for job, execution in started.items():
                view = await client.execution(execution)
                if view.finished_at is None:
                    mine = [effect for effect in effects if effect.execution == execution]
                    story = Story(job=job, view=view, journal=await client.facts(execution), effects=mine)
                    why = await client.why(execution)
                    told += [f"it has not ended after {_PATIENCE:g} s: {view} {why}", story.told()]
        except _NO_ANSWER as exc:
            told.append(f"nobody could tell what has not ended: {exc}")
        return told or ["everything has ended, but not in time"]

    def _failure(self, number: int, fault: Fault | None, wrong: list[str]) -> BrokenPromise:
        name = "nothing" if fault is None else fault.name
        where = (
            f"seed {self._seed}, round {number} ({name}); logs and effects are in {self._system.site.folder}; "
            f"again: make test-chaos SEED={self._seed}"
        )
        more = [f"and {len(wrong) - _MOST_TOLD} more"] if len(wrong) > _MOST_TOLD else []
        return BrokenPromise("\n".join([where, *wrong[:_MOST_TOLD], *more]))
