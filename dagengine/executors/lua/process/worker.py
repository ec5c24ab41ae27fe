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
    ERROR,
    LENGTH,
    LOG,
    READY,
    REPORT,
    RESULT,
    TOKEN,
    HandOff,
    Options,
    Order,
)

__all__ = ["NO_SCOPE", "Worker"]

_READ: Final = 64 << 10
"""Bytes that are read at once: as much as can be had without asking the system for memory each time."""
_CPU_GRANTED_EVERY: Final = 500_000_000

_decode = msgspec.msgpack.Decoder(HandOff).decode
_encode = msgspec.msgpack.Encoder().encode
_environment = msgspec.json.Decoder(dict[str, str]).decode
_levels: Final = {level: b"%d" % digit for digit, level in enumerate(runtime.LEVELS)}


class Worker:
    """One worker, with the sockets that `messages` tells of. `lua` is a runtime made before the fork, not watched."""

    def __init__(
        self, channel: socket.socket, tokens: socket.socket, *, lua: runtime.Runtime, options: Options
    ) -> None:
        self._channel = channel
        self._tokens = tokens
        self._lua = lua
        self._options = options
        self._orders: deque[Order] = deque()
        self._codes: dict[int, str] = {}
        self._values: dict[int, bytes] = {}
        self._received = bytearray()
        self._granted = 0
        self._performed = 0

    def serve(self) -> None:
        """Perform orders until the engine is gone."""
        with contextlib.suppress(ConnectionError):
            self._report(READY, 0, b"", 0, time.monotonic_ns())
            take, size, unpack = self._tokens.recv, TOKEN.size, TOKEN.unpack
            while token := take(size):
                order = self._order(unpack(token)[0])
                if order is None:
                    return
                self._perform(order)

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
        for number, code in handed.codes.items():
            self._codes[number] = code.decode("utf-8", "surrogatepass")
        self._values.update(handed.values)
        self._orders.extend(handed.orders)

    def _perform(self, order: Order) -> None:
        self._performed = order.number
        started = time.monotonic_ns()
        if self._options.cpu and started - self._granted > _CPU_GRANTED_EVERY:
            self._granted = started
            confinement.extend_cpu(self._options.cpu)
        try:
            result = self._run(order)
        except MemoryError:
            result = ErrorInfo(
                type="MemoryLimit", message=runtime.stopped("MemoryLimit", max_memory=self._options.max_memory)
            )
        except ConnectionError:
            raise
        except Exception as exc:
            result = ErrorInfo(type="InternalError", message=f"the Lua worker failed: {type(exc).__name__}: {exc}")
        ended = time.monotonic_ns()
        if type(result) is bytes:
            self._report(RESULT, order.number, result, (ended - started) // 1_000, ended)
        else:
            self._report(ERROR, order.number, _encode(result), (ended - started) // 1_000, ended)

    def _run(self, order: Order) -> bytes | ErrorInfo:
        lua = self._lua
        if lua.broken:
            options = self._options
            lua = self._lua = runtime.Runtime(
                max_memory=options.max_memory, max_output=options.max_output, watched=False
            )
        chunk = lua.script(self._codes[order.code])
        if isinstance(chunk, ErrorInfo):
            return chunk
        scope = NO_SCOPE if chunk.bare else self._scope(order)
        return lua.run(chunk, scope, seed=order.seed, now=order.now, lines=self._line)

    def _scope(self, order: Order) -> base.Scope:
        env = self._value(order.env)
        return base.Scope(
            execution="",
            workflow="",
            version="",
            digest="",
            inputs=self._value(order.inputs) or b"null",
            nodes={id: self._values[at] if isinstance(at, int) else at for id, at in (order.nodes or {}).items()},
            env={} if env is None else _environment(env),
            item=self._value(order.item),
            index=order.index,
        )

    def _value(self, packed: bytes | int | None) -> bytes | None:
        return self._values[packed] if isinstance(packed, int) else packed

    def _line(self, level: runtime.Level, text: str) -> None:
        self._report(LOG, self._performed, _levels[level] + text.encode("utf-8", "replace"), 0, 0)

    def _report(self, kind: int, number: int, body: bytes, elapsed: int, at: int) -> None:
        self._channel.sendall(REPORT.pack(kind, number, len(body), elapsed, at) + body)


NO_SCOPE: Final = base.Scope(execution="", workflow="", version="", digest="", inputs=b"null", nodes={}, env={})
"""What code that reads nothing is given."""
