"""Answers engines that ask for results which were found before, and finds in facts what can be found again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from dagengine.clock import Clock
from dagengine.events import facts
from dagengine.wire.v1 import session_pb2
from orchestrator.blobs import references
from orchestrator.blobs.base import Blobs
from orchestrator.errors import StoreError
from orchestrator.store.base import KnownResult, Store

__all__ = ["answers", "of_facts"]

_log = structlog.get_logger("orchestrator.results")

_SUCCEEDED: Final = b'{"type":"NodeSucceeded"'
_CACHE: Final = b'"cache":"'


def of_facts(execution: str, payloads: Sequence[bytes]) -> list[KnownResult]:
    """The results in encoded facts that may be used again."""
    found = []
    for payload in payloads:
        if not payload.startswith(_SUCCEEDED) or _CACHE not in payload:
            continue
        fact = facts.decode(payload)
        if isinstance(fact, facts.NodeSucceeded) and fact.cache and isinstance(fact.result, msgspec.Raw):
            found.append(
                KnownResult(
                    digest=fact.cache,
                    result=bytes(fact.result),
                    execution=execution,
                    found_at=fact.at,
                    until=fact.cache_until,
                )
            )
    return found


async def answers(
    store: Store, blobs: Blobs, clock: Clock, lookups: Sequence[session_pb2.ResultLookup]
) -> list[session_pb2.OrchestratorMessage]:
    """What to tell an engine, a message for each question: a result may be large. What cannot be read is not known.

    Nor is a large result whose value went with the executions that had cited it.
    """
    try:
        known = await store.known_results({lookup.digest for lookup in lookups}, now=clock.now())
        cited = {key: one for key, result in known.items() if (one := references.reference_of(result.result))}
        large = await blobs.get({reference.digest for reference in cited.values()}) if cited else {}
    except StoreError as error:
        _log.warning("results_not_read", error=str(error))
        known, cited, large = {}, {}, {}
    made = []
    for lookup in lookups:
        answer = session_pb2.ResultAnswer(number=lookup.number)
        result, reference = known.get(lookup.digest), cited.get(lookup.digest)
        if result is not None and (reference is None or reference.digest in large):
            value = result.result if reference is None else large[reference.digest]
            answer.found, answer.result, answer.execution = True, value, result.execution
        made.append(session_pb2.OrchestratorMessage(result_answers=[answer]))
    return made
