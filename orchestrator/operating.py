"""A method for each operation on an execution, for whoever can pass one on.

`Service` (and so `Orchestrator`) and `client.Client` inherit them, so that both offer the same::

    await orch.signal(execution, "paid", {"amount": 12})

Each returns a `Receipt` once what was asked for is durable, and raises what `Verbs.operate` raises. Times are seconds.
`author` says who asks, `reason` why; both are kept in the execution's journal.

The types of operations are not imported here, nor what reads durations: the client, and so every command of `dagctl`,
would wait for them.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import UNSET

from orchestrator.errors import RequestError
from orchestrator.verbs import Receipt

__all__ = ["Operating", "as_json"]


class Operating(ABC):
    """The operations, one method each."""

    @abstractmethod
    async def _ask(self, execution: str, kind: str, members: Mapping[str, Any]) -> Receipt:
        """Pass an operation on: its kind and members as in the JSON of `dagengine.machine.operations`."""

    async def cancel(self, execution: str, *, grace: float | str = 0.0, reason: str = "", author: str = "") -> Receipt:
        """Stop it. Nodes with effects have `grace` (seconds, or `2m`) to end by themselves; `on_exit` still runs."""
        members = {"grace": _microseconds(grace), "author": author, "reason": reason}
        return await self._ask(execution, "cancel", members)

    async def terminate(self, execution: str, *, reason: str = "", author: str = "") -> Receipt:
        """End everything of it at once; nothing more runs, `on_exit` neither."""
        return await self._ask(execution, "cancel", {"terminate": True, "author": author, "reason": reason})

    async def pause(self, execution: str, *, node: str = "", reason: str = "", author: str = "") -> Receipt:
        """Begin nothing new and stop the clocks, in all of it or at one node. What runs may end."""
        return await self._ask(execution, "pause", {"node": node, "author": author, "reason": reason})

    async def resume(self, execution: str, *, node: str = "", reason: str = "", author: str = "") -> Receipt:
        """Let what was paused go on: all of it, or one node."""
        return await self._ask(execution, "resume", {"node": node, "author": author, "reason": reason})

    async def retry(self, execution: str, *, nodes: Iterable[str] = (), reason: str = "", author: str = "") -> Receipt:
        """Run `nodes` again, and all that depends on them; without any, what has not succeeded.

        Also when the execution has ended: it goes on then.
        """
        return await self._ask(execution, "retry", {"nodes": list(nodes), "author": author, "reason": reason})

    async def skip(
        self, execution: str, node: str, *, result: Any = UNSET, reason: str = "", author: str = ""
    ) -> Receipt:
        """Do not run a node (any longer). With `result`, a JSON value, it counts as succeeded."""
        members = {"node": node, "author": author, "reason": reason}
        if result is not UNSET:
            members["result"] = result
        return await self._ask(execution, "skip", members)

    async def signal(
        self, execution: str, name: str, payload: Any = None, *, reason: str = "", author: str = ""
    ) -> Receipt:
        """Tell it that `name` has happened; `payload` is a JSON value."""
        members = {"name": name, "payload": payload, "author": author, "reason": reason}
        return await self._ask(execution, "signal", members)

    async def approve(
        self, execution: str, node: str, *, author: str, index: int | None = None, reason: str = ""
    ) -> Receipt:
        """Approve of what a node (its item `index`, counted from 0) waits for."""
        members = {"node": node, "index": index, "approved": True, "author": author, "reason": reason}
        return await self._ask(execution, "decide", members)

    async def reject(
        self, execution: str, node: str, *, author: str, index: int | None = None, reason: str = ""
    ) -> Receipt:
        """Reject what a node (its item `index`, counted from 0) waits for."""
        members = {"node": node, "index": index, "approved": False, "author": author, "reason": reason}
        return await self._ask(execution, "decide", members)

    async def edit(
        self, execution: str, node: str, inputs: Mapping[str, Any], *, reason: str = "", author: str = ""
    ) -> Receipt:
        """Let a node that has not run see other values of some inputs."""
        members = {"node": node, "inputs": dict(inputs), "author": author, "reason": reason}
        return await self._ask(execution, "edit", members)


def _microseconds(grace: float | str) -> int:
    from dagengine.spec.duration import parse_duration

    try:
        return parse_duration(grace)
    except ValueError as exc:
        raise RequestError(f"`grace`: {exc}") from exc


def as_json(value: object, what: str) -> bytes:
    """`value` as JSON. Raises RequestError when it cannot be written so."""
    try:
        # not msgspec: it would turn NaN into null, and bytes and sets into something, without a word
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise RequestError(f"{what} cannot be written as JSON: {exc}") from exc
