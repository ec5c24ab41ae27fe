"""Operations about the orchestrator itself: its engines, pools and replicas, health, readiness and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.api import examples
from orchestrator.api.operations import Answer, Operation, json_response
from orchestrator.verbs import Verbs
from orchestrator.views import EngineList, Health, PoolList, Readiness, ReplicaList

__all__ = ["System"]

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class System:
    """Engines, pools, replicas, health, readiness and metrics.

    `readiness` gives the reasons why executions cannot be taken now, `health` those why the process should be started
    anew, `warnings` what else somebody should know, `metrics` the Prometheus text.
    """

    def __init__(
        self,
        verbs: Verbs,
        *,
        metrics: Callable[[], bytes],
        readiness: Callable[[], list[str]],
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
        reasons = ["no engine is connected"]
        return (
            Operation(
                name="listEngines",
                method="GET",
                path="/api/v1/engines",
                tag="system",
                summary="List engines",
                endpoint=self.engines,
                answers={
                    200: Answer(
                        description="The engines known now.",
                        schema=EngineList,
                        example={"items": [examples.ENGINE]},
                    )
                },
            ),
            Operation(
                name="listPools",
                method="GET",
                path="/api/v1/pools",
                tag="system",
                summary="List pools",
                description="Those over the whole system, and those that engines which are connected have for "
                "themselves, as they last told.",
                endpoint=self.pools,
                answers={
                    200: Answer(
                        description="The pools as they stand.", schema=PoolList, example={"items": [examples.POOL]}
                    )
                },
            ),
            Operation(
                name="listReplicas",
                method="GET",
                path="/api/v1/replicas",
                tag="system",
                summary="List replicas",
                description="The orchestrators that share one store. Any of them takes any request; one leads.",
                endpoint=self.replicas,
                answers={
                    200: Answer(
                        description="In the order in which they joined.",
                        schema=ReplicaList,
                        example={"items": [examples.REPLICA]},
                    )
                },
            ),
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
            Operation(
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
            ),
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

    async def ready(self, _request: Request, _query: dict[str, Any]) -> Response:
        """200 or 503, with the reasons."""
        reasons = self._readiness()
        return json_response(Readiness(ready=not reasons, reasons=reasons), status=503 if reasons else 200)

    async def metrics(self, _request: Request, _query: dict[str, Any]) -> Response:
        """The Prometheus text."""
        return Response(self._metrics(), headers={"content-type": METRICS_TYPE, "cache-control": "no-store"})
