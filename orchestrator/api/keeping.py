"""Operations about what is kept: journals to take away, and deleting executions that have ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.api import examples
from orchestrator.api.bodies import Bodies
from orchestrator.api.operations import Answer, Body, Operation, json_response
from orchestrator.errors import RequestError
from orchestrator.verbs import JournalHeader, PurgeReport, Verbs
from orchestrator.views import PurgeRequest

__all__ = ["Keeping"]

MAX_TURN: Final = 20.0
"""Seconds that one request may purge: clients do not wait for answers much longer."""

_PURGE: Final = msgspec.json.Decoder(PurgeRequest)
_BY_RETENTION: Final = PurgeRequest()


class Keeping:
    """`/api/v1/purge` and `/api/v1/executions/{id}/journal`."""

    def __init__(self, verbs: Verbs, bodies: Bodies) -> None:
        self._verbs = verbs
        self._bodies = bodies

    def operations(self) -> Sequence[Operation]:
        """What this part of the interface offers."""
        return (
            Operation(
                name="getJournalHeader",
                method="GET",
                path="/api/v1/executions/{id}/journal",
                tag="executions",
                summary="Read what an exported journal begins with",
                description="The execution with its document: the first line of the file that `dagctl export` writes. "
                "The others are its facts, up to `last_seq`.",
                endpoint=self.journal,
                answers={
                    200: Answer(description="Everything but the facts.", schema=JournalHeader, example=examples.JOURNAL)
                },
                problems=["not-found"],
            ),
            Operation(
                name="purge",
                method="POST",
                path="/api/v1/purge",
                tag="system",
                summary="Delete executions that have ended",
                description="Those that ended longer ago than `older_than` (a duration such as `30d`, or seconds), and "
                "of each workflow those beyond the newest `keep`; with neither, what the retention of each workflow "
                "says. With `dry_run` nothing goes. A request ends after `within` seconds: when the answer says "
                "`more`, ask again.",
                endpoint=self.purge,
                body=Body(schema=PurgeRequest, example=examples.PURGE),
                answers={200: Answer(description="What went.", schema=PurgeReport, example=examples.PURGED)},
                problems=["not-found", "body-too-large", "unsupported-media-type"],
            ),
        )

    async def journal(self, request: Request, _query: dict[str, Any]) -> Response:
        """The first line of a journal."""
        return json_response(await self._verbs.journal(request.path_params["id"]))

    async def purge(self, request: Request, _query: dict[str, Any]) -> Response:
        """Delete for a while."""
        body = await self._bodies.json(request, _PURGE, _BY_RETENTION)
        if not 0 < body.within <= MAX_TURN:
            raise RequestError(f"`within` must be more than 0 and at most {MAX_TURN:g} seconds, not {body.within:g}")
        report = await self._verbs.purge(
            workflow=body.workflow,
            older_than=body.older_than,
            keep=body.keep,
            dry_run=body.dry_run,
            within=body.within,
        )
        return json_response(report)
