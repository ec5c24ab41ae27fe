"""One sandboxed Lua state: compiles code, performs one call at a time, and stops it in time.

A runtime has no asyncio in it, and no thread: the inline executor has one on the loop's thread or on a thread of its
own, a worker process has one for itself. It is used by one thread at a time, and imports next to nothing, so that a
worker process is small.

Scripts are written by anybody. They can reach no Python object, no file, no process and no code loading; they can
change nothing that another script sees; they are stopped at their deadline, on cancellation and at the memory limit.
What cannot be stopped from inside is a single long call into Lua's own C code: a hostile pattern (`string.find` and its
kin with many `.-`) may take for ever. Untrusted code needs a runtime in a process that can be killed.

After `Timeout`, `Cancelled` or `MemoryLimit` a runtime is `broken`: its owner drops it and makes another.
"""

from __future__ import annotations

import pkgutil
import time
from collections.abc import Callable
from typing import Any, Final, Literal

import lupa.lua55 as lua
import msgspec

from dagengine.errors import ExecutorError
from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua.cache import Generations
from dagengine.executors.lua.chunk import Chunk, Reads, reads

__all__ = [
    "BREAKING",
    "DEFAULT_MAX_MEMORY",
    "DEFAULT_MAX_OUTPUT",
    "LEVELS",
    "Level",
    "Lines",
    "Runtime",
    "lines_of",
    "stopped",
]

DEFAULT_MAX_MEMORY: Final = 256 << 20
"""Bytes one runtime may hold: scripts' values, compiled code and cached values together."""

DEFAULT_MAX_OUTPUT: Final = 4 << 20
"""Bytes of JSON that one result may have."""

BREAKING: Final = frozenset({"Timeout", "Cancelled", "MemoryLimit"})
"""The error types after which a runtime cannot be used any more."""

Level = Literal["debug", "info", "warning", "error"]
Lines = Callable[[Level, str], None]
"""Takes the lines of a script's log."""

LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error")
_HASH_SEED: Final = 0x5EED
_SMALL: Final = 1024
_CHUNK_OVERHEAD: Final = 1024
_NEVER: Final = 1 << 63
_LOG_LINES, _LOG_LINE, _LOG_BYTES = 1_000, 64 << 10, 1 << 20


class Watch:
    """What a running script is asked to stop for. Lua holds it, so it must not hold the runtime."""

    __slots__ = ("deadline", "interruption", "lines", "running", "stopped", "unwanted")

    def __init__(self) -> None:
        self.deadline = _NEVER
        self.running: object = None
        self.unwanted: object = None
        self.stopped = False
        self.lines: Lines | None = None
        self.interruption: BaseException | None = None

    def tick(self, log: bytes | None) -> bytes | None:
        """Called by the guard every few milliseconds of a running script: why it must stop, or None.

        Nothing may be raised into Lua, where the script could catch it: it is kept and raised after the call.
        """
        try:
            if log is not None:
                self.write(log)
            if self.stopped or (self.unwanted is not None and self.unwanted is self.running):
                return b"Cancelled"
            if time.monotonic_ns() >= self.deadline:
                return b"Timeout"
        except BaseException as exc:
            self.interruption = exc
            return b"Cancelled"
        return None

    def write(self, log: bytes) -> None:
        """Hand the lines of `log` on: each has its level's digit before it."""
        if self.lines is not None:
            for line in log.decode("utf-8", "replace").split("\n"):
                self.lines(LEVELS[int(line[0])], line[1:])


class Runtime:
    """A Lua 5.5 state with nothing in it but the sandbox.

    `max_memory` and `max_output` are in bytes. `broken` says that it must not be used any more. One that is not
    `watched` keeps no deadline and cannot be cancelled, because its process is killed instead; it runs pure Lua about
    twice as fast.
    """

    def __init__(
        self,
        *,
        max_memory: int = DEFAULT_MAX_MEMORY,
        max_output: int = DEFAULT_MAX_OUTPUT,
        watched: bool = True,
    ) -> None:
        self.broken = False
        self._max_memory = max_memory
        self._watch = Watch()
        state = lua.LuaRuntime(
            encoding=None,  # texts of Lua need not be UTF-8: bytes both ways, checked where they become JSON
            source_encoding="utf-8",
            register_eval=False,
            register_builtins=False,
            attribute_filter=_no_attributes,
            unpack_returned_tuples=True,
            max_memory=max_memory,
            string_hash_seed=_HASH_SEED,
        )
        self._state = state
        entries = _boot(state, self._watch.tick, max_output, watched)
        self._compile_script, self._compile_template, self._check_script, self._check_expression = entries[:4]
        self._position, self._explain, self._keep, self._drop = entries[4:]
        self._chunks: Generations[str, Chunk | ErrorInfo] = Generations(max_memory // 16)
        self._values: Generations[bytes, int] = Generations(max_memory // 16)
        self._last_slot = 0

    def cancel(self, token: object) -> None:
        """Stop the call that was given `token`, if it is the one that is running. Safe from any thread."""
        self._watch.unwanted = token

    def stop(self) -> None:
        """Stop the call that is running and any after it. Safe from any thread."""
        self._watch.stopped = True

    def syntax_error(self, code: str, *, expression: bool = False) -> ErrorInfo | None:
        """What is wrong with `code` as a chunk (or as one expression), or None. Runs nothing."""
        check = self._check_expression if expression else self._check_script
        message = check(_source(code))
        return None if message is None else _syntax_error(message, code)

    def script(self, code: str) -> Chunk | ErrorInfo:
        """The compiled chunk `code`; compiled once. The error is a `LuaSyntaxError`."""
        chunk = self._chunks.get(code)
        if chunk is None:
            self._chunks.rotate()
            chunk = self._compiled_script(code)
            self._chunks.put(code, chunk, len(code) + _CHUNK_OVERHEAD)
        return chunk

    def _compiled_script(self, code: str) -> Chunk | ErrorInfo:
        needs = reads([code])
        bare = needs.nothing
        made = self._compile_script(_source(code), bare, needs.globals, self._ids(needs))
        if type(made) is tuple:
            return _syntax_error(made[1], code)
        return Chunk(made, needs, bare)

    def template(self, modes: bytes, parts: list[bytes], codes: list[str]) -> Chunk | tuple[ErrorInfo, int]:
        """The compiled template of `parts` (see `sandbox.lua`); else the syntax error and the part that has it."""
        needs = reads(codes)
        made = self._compile_template(modes, self._state.table_from(parts), self._ids(needs))
        if type(made) is tuple:
            position = made[2] - 1
            return _syntax_error(made[1], _text(parts[position])), position
        return Chunk(made, needs, False)

    def position(self) -> int:
        """The part of a template, counted from 0, that the last error came from."""
        position = self._position()
        return 0 if position is None else int(position) - 1

    def run(
        self,
        chunk: Chunk,
        scope: base.Scope,
        *,
        seed: int = 0,
        now: int = 0,
        timeout: int | None = None,
        lines: Lines | None = None,
        started: int | None = None,
        token: object = None,
    ) -> bytes | ErrorInfo:
        """Call `chunk`: its result as JSON, or why there is none.

        `seed` starts `math.random`, `now` (microseconds since the epoch) is what `os.time` answers, `timeout` is in
        microseconds and counts from `started` (`time.monotonic_ns()`; now, if not given), `lines` takes the log, some
        of it while the script runs, `token` names the call for `cancel`. Errors: `LuaError`, `ResultError` (the
        result is not JSON, or too big), `Timeout`, `Cancelled`, `MemoryLimit`, `InternalError`.
        """
        watch = self._watch
        watch.lines = lines
        watch.running = token
        if timeout is None:
            watch.deadline = _NEVER
        else:
            watch.deadline = (time.monotonic_ns() if started is None else started) + timeout * 1_000
        try:
            result = chunk.call() if chunk.bare else chunk.call(*self._arguments(chunk.reads, scope, seed, now))
        except (lua.LuaError, MemoryError, ValueError, OverflowError, RecursionError) as exc:
            return self._escaped(exc)
        if type(result) is bytes:
            return result
        return self._unpacked(result, timeout)

    def _unpacked(self, result: tuple[Any, ...], timeout: int | None) -> bytes | ErrorInfo:
        if result[0] is not False:
            self._watch.write(result[1])
            value: bytes = result[0]
            return value
        _, kind, message, line, traceback, *log = result
        if log and log[0]:
            self._watch.write(log[0])
        if self._watch.interruption is not None:
            self.broken = True
            raise self._watch.interruption
        return self._error(_text(kind), _text(message), line, _text(traceback), timeout)

    def _error(self, kind: str, message: str, line: int, traceback: str, timeout: int | None) -> ErrorInfo:
        if kind in BREAKING:
            self.broken = True
            message = stopped(kind, timeout=timeout, max_memory=self._max_memory)
        return ErrorInfo(type=kind, message=message, line=line, traceback=traceback)

    def _escaped(self, exc: Exception) -> ErrorInfo:
        """The error of a call that raised: while values were converted, on the way in or out."""
        if isinstance(exc, MemoryError):
            return self._error("MemoryLimit", "", 0, "", None)
        if isinstance(exc, lua.LuaError):
            explained = self._explain()
            if explained is None:
                self.broken = True
                return ErrorInfo(type="InternalError", message=str(exc))
            if len(explained) > 2 and explained[2]:
                self._watch.write(explained[2])
            return ErrorInfo(type=_text(explained[0]), message=_text(explained[1]))
        if isinstance(exc, OverflowError):
            return ErrorInfo(type="LuaError", message="a value in scope holds an integer outside 64 bits")
        return ErrorInfo(type="InternalError", message=f"a value in scope cannot be converted: {exc}")

    def _arguments(self, needs: Reads, scope: base.Scope, seed: int, now: int) -> list[Any]:
        for slot in self._values.rotate():
            self._drop(slot)
        arguments = [
            self._packed(scope.inputs) if needs.inputs else None,
            self._packed(_encode(scope.env)) if needs.env else None,
            self._packed(scope.item) if needs.item and scope.item is not None else None,
            scope.index + 1 if needs.index and scope.index is not None else None,
            seed & 0x7FFF_FFFF_FFFF_FFFF if needs.randomness else None,
            now if needs.time else None,
        ]
        nodes = scope.nodes
        if needs.nodes is None:
            every = {id.encode(): self._packed(value) for id, value in nodes.items()}
            self._must_fit(sum(len(value) for value in every.values() if isinstance(value, bytes)))
            arguments.append(self._state.table_from(every))
        else:
            for id in needs.nodes:
                value = nodes.get(id)
                arguments.append(None if value is None else self._packed(value))
        return arguments

    def _packed(self, value: bytes) -> bytes | int:
        """The value as MessagePack, or the slot where it lies converted: big ones are often read again, and kept."""
        if len(value) < _SMALL:
            return _pack(_unpack(value))
        slot = self._values.get(value)
        if slot is None:
            packed = _pack(_unpack(value))
            self._must_fit(len(packed))
            self._last_slot = slot = self._last_slot + 1
            self._keep(slot, packed)
            self._values.put(value, slot, len(value))
        return slot

    def _must_fit(self, size: int) -> None:
        """Lua aborts the process when it has no memory for an argument: refuse before it has to."""
        if size > self._max_memory // 8:
            raise MemoryError

    def _ids(self, needs: Reads) -> Any:
        if needs.nodes == ():
            return None
        return self._state.table_from([id.encode() for id in needs.nodes or ()])


def _syntax_error(message: bytes, code: str) -> ErrorInfo:
    """The error for Lua's own message, `script:3: unexpected symbol near 'x'`."""
    text = _text(message)
    where, _, rest = text.removeprefix("script:").partition(": ")
    if text.startswith("script:") and where.isdigit():
        return ErrorInfo(type="LuaSyntaxError", message=rest, line=min(int(where), lines_of(code)))
    return ErrorInfo(type="LuaSyntaxError", message=text)


def stopped(kind: str, *, timeout: int | None = None, max_memory: int = 0) -> str:
    """What is said of a script that was stopped for `kind`, one of `BREAKING`; microseconds, bytes."""
    if kind == "Timeout":
        return f"the script ran longer than its timeout of {(timeout or 0) / 1e6:g} s"
    if kind == "MemoryLimit":
        return f"the script needed more memory than the {max_memory / (1 << 20):g} MiB it may use"
    return "the attempt was cancelled"


def lines_of(code: str) -> int:
    """How many lines `code` has. Lua sees one more where an expression is closed on a line of its own."""
    return code.count("\n") + 1


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def _boot(state: Any, tick: Callable[[bytes | None], bytes | None], max_output: int, watched: bool) -> tuple[Any, ...]:
    """Build the sandbox in `state`: the entry points, in the order that `sandbox.lua` returns them."""
    values = state.execute(_lua("values"), name="=host", mode="t")
    guard = state.execute(_lua("guard"), tick, watched, name="=host", mode="t")
    json = state.execute(_lua("json"), values, guard, max_output, name="=host", mode="t")
    limits = state.table_from({b"lines": _LOG_LINES, b"line": _LOG_LINE, b"bytes": _LOG_BYTES})
    library = state.execute(_lua("library"), values, guard, json, limits, name="=host", mode="t")
    entries: tuple[Any, ...] = state.execute(
        _lua("sandbox"), values, guard, library, max_output, name="=host", mode="t"
    )
    return entries


_sources: dict[str, bytes] = {}


def _lua(name: str) -> bytes:
    source = _sources.get(name)
    if source is None:
        source = pkgutil.get_data(__package__, f"{name}.lua")
        if source is None:
            raise ExecutorError(f"{name}.lua is missing from the installed package {__package__}; install it again")
        _sources[name] = source
    return source


def _source(code: str) -> bytes:
    return code.encode("utf-8", "surrogatepass")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _no_attributes(_obj: object, name: object, _is_setting: bool) -> str:
    raise AttributeError(f"{name!r} cannot be reached from Lua")
