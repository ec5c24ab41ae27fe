"""Asks an engine how it is, by the standard health service of gRPC (`grpc.health.v1`). Used by `grpc_link`."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dagengine.wire import limits
from orchestrator.errors import TransportError

__all__ = ["check"]


async def check(channel: grpc.aio.Channel, address: str) -> str:
    """Why the engine at the other end says that it does not serve; empty when it does.

    TransportError when it does not answer. An engine without a health service is as well as its session is.
    """
    request = health_pb2.HealthCheckRequest(service=limits.SERVICE)
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(request)
    except grpc.aio.AioRpcError as exc:
        if exc.code() is grpc.StatusCode.UNIMPLEMENTED:
            return ""
        raise TransportError(f"{address} does not say how it is: {exc.code().name}") from exc
    except asyncio.CancelledError as exc:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise TransportError(f"the session with {address} has ended") from exc  # gRPC cancels calls of closed channels
    except (grpc.aio.UsageError, grpc.RpcError) as exc:
        raise TransportError(f"{address} does not say how it is: {exc}") from exc
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return f"it says {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"
