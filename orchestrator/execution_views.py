"""From the record of an execution to what people see of it. Called by `service`, which answers with that everywhere."""

from __future__ import annotations

import msgspec
import orjson

from dagengine.events.facts import ErrorInfo
from orchestrator.blobs import values
from orchestrator.blobs.base import Blobs
from orchestrator.store.base import ExecutionRecord
from orchestrator.verbs import ExecutionView

__all__ = ["whole", "without_values"]


async def whole(blobs: Blobs, record: ExecutionRecord, *, waiting_on: str | None) -> ExecutionView:
    """All of it, with its large values put back. ValuesMissing, StoreError."""
    record = await values.of_record(blobs, record)
    brief = without_values(record, waiting_on=waiting_on)
    outputs = None if record.outputs is None else orjson.loads(record.outputs)
    return msgspec.structs.replace(brief, inputs=orjson.loads(record.inputs), outputs=outputs)


def without_values(record: ExecutionRecord, *, waiting_on: str | None) -> ExecutionView:
    """All but its inputs and outputs. `waiting_on` is why no engine has it."""
    error = None if record.error is None else msgspec.json.decode(record.error, type=ErrorInfo)
    cancelled = record.status == "cancelled"
    return ExecutionView(
        id=record.id,
        workflow=record.workflow,
        version=record.version,
        status=record.status,
        created_at=record.created_at,
        trigger=record.trigger,
        priority=record.priority,
        concurrency_key=_key_of(record),
        engine=record.engine,
        epoch=record.epoch,
        last_seq=record.last_seq,
        started_at=record.started_at,
        finished_at=record.finished_at,
        error=None if cancelled else error,
        reason=error.message if cancelled and error is not None else "",
        waiting_on=waiting_on,
    )


def _key_of(record: ExecutionRecord) -> str | None:
    """The concurrency key without the workflow, which the store keeps with it."""
    return None if record.concurrency_key is None else record.concurrency_key.removeprefix(record.workflow + "/")
