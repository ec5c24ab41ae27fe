"""What a worker process does: takes orders, performs them one at a time, reports how each ended. Forked by `zygote`.

Nobody in here watches the clock: the engine kills the process when a script must be stopped. A worker ends when the
engine closes its side.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import deque
from typing import Final

import msgspec

from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua import runtime
from dagengine.executors.lua.process import confinement
from dagengine.executors.lua.process.messages import (
    BEGUN,
    ERROR,
    LENGTH,
    LOG,
    READY,
    REPORT,
    RESULT,
    TOKEN,
    VOID,
    Extra,
    HandOff,
    Options,
    Order,
)

__all__ = ["NO_SCOPE", "Worker"]

_READ: Final = 64 << 10
"""Bytes that are read at once: as much as can be had without asking the system for memory each time."""
_CPU_GRANTED_EVERY: Final = 500_000_000

_KEPT: Final = 1 << 18
"""Bytes of the largest result that is kept for the attempts that follow in a chain. There may be 64 of them."""

_LATE: Final = 1_000_000
"""Nanoseconds after which the engine is told that an attempt has begun later than it must think."""

_decode = msgspec.msgpack.Decoder(HandOff).decode
_encode = msgspec.json.Encoder().encode
_texts = msgspec.json.Decoder(dict[str, str]).decode
_levels: Final = {level: b"%d" % digit for digit, level in enumerate(runtime.LEVELS)}


class Worker:
    """One worker, with the sockets that `messages` tells of. `lua` is a runtime made before the fork, not watched."""

    def __init__(
        self, channel: socket.socket, tokens: socket.socket, *, lua: runtime.Runtime, options: Options
    ) -> None:
        self._channel = channel
        self._tokens = tokens
        self._lua: runtime.Runtime | None = lua
        self._options = options
        self._orders: deque[Order] = deque()
        self._codes: dict[int, str] = {}
        self._values: dict[int, bytes] = {}
        self._results: dict[int, bytes] = {}
        """Of those attempts of the chain that is performed which have succeeded, by number."""
        self._objects: dict[int, dict[str, str]] = {}
        """Values that were needed decoded."""
        self._received = bytearray()
        self._granted = 0
        self._performed = 0
        self._due = 0
        """When the next attempt begins as the engine sees it (monotonic, ns)."""

    def serve(self) -> None:
        """Perform orders until the engine is gone."""
        with contextlib.suppress(ConnectionError):
            self._report(READY, 0, b"", 0, time.monotonic_ns())
            take, size, unpack = self._tokens.recv, TOKEN.size, TOKEN.unpack
            while self._orders or self._foresee():
                try:
                    token = take(size, socket.MSG_DONTWAIT)
                except BlockingIOError:  # what it was handed has been taken back
                    if not self._foresee():
                        return
                    continue
                order = self._order(unpack(token)[0]) if token else None
                if order is None:
                    return
                self._perform(order)

    def _foresee(self) -> bool:
        """Wait for work, and read what belongs to it before its token is taken. False when the engine is gone."""
        token = self._tokens.recv(TOKEN.size, socket.MSG_PEEK)
        if not token:
            return False
        number = TOKEN.unpack(token)[0]
        while not any(order.number == number for order in self._orders):
            handed = self._message()
            if handed is None:
                return False
            self._orders.clear()  # they lie before what has a token: they are void
            self._accept(handed)
        return True

    def _order(self, number: int) -> Order | None:
        """The order of that number; those before it are void. None when the engine is gone."""
        orders = self._orders
        while True:
            while orders:
                order = orders.popleft()
                if order.number == number:
                    return order
            handed = self._message()
            if handed is None:
                return None
            self._accept(handed)

    def _message(self) -> HandOff | None:
        received = self._received
        need = LENGTH.size
        while True:
            if len(received) >= LENGTH.size:
                need = LENGTH.size + LENGTH.unpack_from(received)[0]
                if len(received) >= need:
                    with memoryview(received) as whole, whole[LENGTH.size : need] as message:
                        handed = _decode(message)
                    del received[:need]
                    return handed
            data = self._channel.recv(max(_READ, need - len(received)))
            if not data:
                return None
            received += data

    def _accept(self, handed: HandOff) -> None:
        for number in handed.forgotten_codes:
            del self._codes[number]
        for number in handed.forgotten_values:
            del self._values[number]
            self._objects.pop(number, None)
        for number, code in handed.codes.items():
            self._codes[number] = code.decode("utf-8", "surrogatepass")
        self._values.update(handed.values)
        self._orders.extend(handed.orders)
        self._due = max(self._due, handed.at)

    def _perform(self, order: Order) -> None:
        self._performed = order.number
        started = time.monotonic_ns()
        if not order.after:
            self._results.clear()
        elif order.after not in self._results:
            self._report(VOID, order.number, b"", 0, started)
            return
        if started - self._due > _LATE:
            self._report(BEGUN, order.number, b"", 0, started)
        if self._options.cpu and started - self._granted > _CPU_GRANTED_EVERY:
            self._granted = started
            confinement.extend_cpu(self._options.cpu)
        try:
            result = self._run(order)
        except MemoryError:
            self._lua = None
            most = self._options.max_memory if order.extra is None else order.extra.memory or self._options.max_memory
            result = ErrorInfo(type="MemoryLimit", message=runtime.stopped("MemoryLimit", max_memory=most))
        except ConnectionError:
            raise
        except Exception as exc:
            self._lua = None
            result = ErrorInfo(type="InternalError", message=f"the Lua worker failed: {type(exc).__name__}: {exc}")
        ended = self._due = time.monotonic_ns()
        if type(result) is bytes:
            if self._orders and self._orders[0].after == order.number and len(result) <= _KEPT:
                self._results[order.number] = result
            self._report(RESULT, order.number, result, (ended - started) // 1_000, ended)
        else:
            self._report(ERROR, order.number, _encode(result), (ended - started) // 1_000, ended)

    def _run(self, order: Order) -> bytes | ErrorInfo:
        lua = self._lua
        if lua is None:
            options = self._options
            lua = self._lua = runtime.Runtime(
                max_memory=options.max_memory, max_output=options.max_output, watched=False
            )
        chunk = lua.script(self._codes[order.code])
        if isinstance(chunk, ErrorInfo):
            return chunk
        extra = order.extra or _NO_EXTRA
        scope = NO_SCOPE if chunk.bare else self._scope(order, extra)
        try:
            return lua.run(
                chunk,
                scope,
                seed=order.seed,
                now=order.now,
                lines=self._line,
                memory=extra.memory,
                output=extra.output,
            )
        finally:
            if lua.broken:
                self._lua = None  # frees its memory now, not with the next attempt

    def _scope(self, order: Order, extra: Extra) -> base.Scope:
        return base.Scope(
            execution="",
            workflow="",
            version="",
            digest="",
            inputs=self._value(order.inputs) or b"null",
            nodes={id: self._result(at) if isinstance(at, int) else at for id, at in (order.nodes or {}).items()},
            env=self._object(order.env),
            item=self._value(order.item),
            index=order.index,
            key=extra.key,
            modules=self._object(extra.modules),
            conclusion=self._value(extra.execution),
        )

    def _result(self, at: int) -> bytes:
        return self._values[at] if at > 0 else self._results[-at]

    def _value(self, packed: bytes | int | None) -> bytes | None:
        return self._values[packed] if isinstance(packed, int) else packed

    def _object(self, packed: bytes | int | None) -> dict[str, str]:
        if not isinstance(packed, int):
            return {} if packed is None else _texts(packed)
        found = self._objects.get(packed)
        if found is None:
            found = self._objects[packed] = _texts(self._values[packed])
        return found

    def _line(self, level: runtime.Level, text: str) -> None:
        self._report(LOG, self._performed, _levels[level] + text.encode("utf-8", "replace"), 0, 0)

    def _report(self, kind: int, number: int, body: bytes, elapsed: int, at: int) -> None:
        self._channel.sendall(REPORT.pack(kind, number, len(body), elapsed, at) + body)


_NO_EXTRA: Final = Extra()

NO_SCOPE: Final = base.Scope(execution="", workflow="", version="", digest="", inputs=b"null", nodes={}, env={})
"""What code that reads nothing is given."""
