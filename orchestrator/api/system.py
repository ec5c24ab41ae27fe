"""Operations about the orchestrator itself: its engines, pools and replicas, health, readiness and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.api import examples, parameters
from orchestrator.api.operations import Answer, Endpoint, Operation, json_response
from orchestrator.verbs import Verbs
from orchestrator.views import EngineList, Health, PoolList, Readiness, ReplicaList

__all__ = ["System"]

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class System:
    """Engines, pools, replicas, health, readiness and metrics.

    `readiness(needs_engine)` gives the reasons why executions cannot be taken now, `health` those why the process
    should be started anew, `warnings` what else somebody should know, `metrics` the Prometheus text.
    """

    def __init__(
        self,
        verbs: Verbs,
        *,
        metrics: Callable[[], bytes],
        readiness: Callable[[bool], list[str]],
        health: Callable[[], list[str]],
        warnings: Callable[[], list[str]],
    ) -> None:
        self._verbs = verbs
        self._metrics = metrics
        self._readiness = readiness
        self._health = health
        self._warnings = warnings

    def operations(self) -> Sequence[Operation]:
        """What this part of the interface offers."""
        return *self._lists(), *self._probes(), self._measurements()

    def _lists(self) -> Sequence[Operation]:
        return (
            _list(
                "engines",
                self.engines,
                Answer(description="The engines known now.", schema=EngineList, example={"items": [examples.ENGINE]}),
            ),
            _list(
                "pools",
                self.pools,
                Answer(description="The pools as they stand.", schema=PoolList, example={"items": [examples.POOL]}),
                description="Those over the whole system, and those that engines which are connected have for "
                "themselves, as they last told.",
            ),
            _list(
                "replicas",
                self.replicas,
                Answer(
                    description="In the order in which they joined.",
                    schema=ReplicaList,
                    example={"items": [examples.REPLICA]},
                ),
                description="The orchestrators that share one store. Any of them takes any request; one leads.",
            ),
        )

    def _probes(self) -> Sequence[Operation]:
        reasons = ["no engine is connected"]
        return (
            Operation(
                name="getHealth",
                method="GET",
                path="/healthz",
                tag="system",
                summary="Is the process well?",
                endpoint=self.health,
                answers={
                    200: Answer(description="It is.", schema=Health, example={"status": "ok"}),
                    503: Answer(
                        description="It should be started anew, for these reasons.",
                        schema=Health,
                        example={"status": "broken", "reasons": ["the task 'cron' has died; the log tells why"]},
                    ),
                },
                public=True,
            ),
            Operation(
                name="getReadiness",
                method="GET",
                path="/readyz",
                tag="system",
                summary="Can executions be taken now?",
                endpoint=self.ready,
                query=(
                    parameters.flag(
                        "without_engines",
                        "Having no engine is no reason: what is started waits for one. This is what a load balancer, "
                        "or the readiness probe of a pod, should ask.",
                    ),
                ),
                answers={
                    200: Answer(description="Yes.", schema=Readiness, example={"ready": True, "reasons": []}),
                    503: Answer(
                        description="No, for these reasons.",
                        schema=Readiness,
                        example={"ready": False, "reasons": reasons},
                    ),
                },
                public=True,
            ),
        )

    def _measurements(self) -> Operation:
        return Operation(
            name="getMetrics",
            method="GET",
            path="/metrics",
            tag="system",
            summary="Metrics for Prometheus",
            endpoint=self.metrics,
            answers={
                200: Answer(
                    description="The Prometheus text format.",
                    media_type="text/plain",
                    example="# TYPE dagengine_executions gauge\ndagengine_executions 1.0\n",
                )
            },
        )

    async def engines(self, _request: Request, _query: dict[str, Any]) -> Response:
        """The engines known now."""
        return json_response(EngineList(items=await self._verbs.engines()))

    async def pools(self, _request: Request, _query: dict[str, Any]) -> Response:
        """The pools as they stand."""
        return json_response(PoolList(items=await self._verbs.pools()))

    async def replicas(self, _request: Request, _query: dict[str, Any]) -> Response:
        """The orchestrators that share one store."""
        return json_response(ReplicaList(items=await self._verbs.replicas()))

    async def health(self, _request: Request, _query: dict[str, Any]) -> Response:
        """200 as long as the process does what it should, else 503 with the reasons."""
        warnings = self._warnings() or UNSET
        reasons = self._health()
        if reasons:
            return json_response(Health(status="broken", reasons=reasons, warnings=warnings), status=503)
        return json_response(Health(warnings=warnings))

    async def ready(self, _request: Request, query: dict[str, Any]) -> Response:
        """200 or 503, with the reasons; and with warnings of what keeps no execution from running."""
        reasons = self._readiness(not query["without_engines"])
        answer = Readiness(ready=not reasons, reasons=reasons, warnings=self._warnings() or UNSET)
        return json_response(answer, status=503 if reasons else 200)

    async def metrics(self, _request: Request, _query: dict[str, Any]) -> Response:
        """The Prometheus text."""
        return Response(self._metrics(), headers={"content-type": METRICS_TYPE, "cache-control": "no-store"})


def _list(what: str, endpoint: Endpoint, answer: Answer, *, description: str = "") -> Operation:
    """All there are of something, at the path of its name."""
    return Operation(
        name=f"list{what.capitalize()}",
        method="GET",
        path=f"/api/v1/{what}",
        tag="system",
        summary=f"List {what}",
        description=description,
        endpoint=endpoint,
        answers={200: answer},
    )
