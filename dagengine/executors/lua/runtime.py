"""One sandboxed Lua state: compiles code, performs one call at a time, and stops it in time.

A runtime has no asyncio in it, and no thread: the inline executor has one on the loop's thread or on a thread of its
own, a worker process has one for itself. It is used by one thread at a time, and imports next to nothing, so that a
worker process is small.

Scripts are written by anybody. They can reach no Python object, no file, no process and no code loading; they can
change nothing that another script sees; they are stopped at their deadline, on cancellation and at the memory limit.
A single call into Lua's own C code cannot be stopped from inside; so where a runtime is watched, none begins that may
take long (`patterns.lua`, `tables.lua`). Compiling cannot be stopped, and a hole in Lua would be one in this process:
untrusted code needs a runtime in a process that can be killed.

After `Timeout`, `Cancelled` or `MemoryLimit` a runtime is `broken`: its owner drops it and makes another.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

import lupa.lua55 as lua
import msgspec

from dagengine.events.facts import ErrorInfo
from dagengine.executors import base
from dagengine.executors.lua import frames
from dagengine.executors.lua.boot import boot
from dagengine.executors.lua.cache import Generations
from dagengine.executors.lua.chunk import EVERYTHING, Chunk, Reads, reads
from dagengine.executors.lua.frames import lines_of
from dagengine.executors.lua.host import Host
from dagengine.executors.lua.values import SMALL, Values
from dagengine.executors.lua.watch import LEVELS, NEVER, Level, Lines, Watch

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

_HASH_SEED: Final = 0x5EED
_CHUNK_OVERHEAD: Final = 1024
_OUT_OF_MEMORY: Final = "not enough memory"


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
        self._max_output = max_output
        self._limited = False
        self._collected = 0
        self._enough = 0
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
        self._values = Values(capacity=max_memory // 16, allowed=max_memory)
        host = Host(self._values, _meter(weakref.ref(self)))
        self._entry = entry = boot(state, self._watch.tick, host, max_output=max_output, watched=watched)
        self._compile_script, self._compile_template, self._keep = entry.script, entry.template, entry.keep
        self._chunks: Generations[str, Chunk | ErrorInfo] = Generations(max_memory // 16)
        self._modules: Generations[tuple[tuple[str, str], ...], int] = Generations(max_memory // 32)
        self._last_set = 0
        self._total = state.get_max_memory(total=True)
        self._held = state.get_memory_used
        self._tidy()

    def cancel(self, token: object) -> None:
        """Stop the call that was given `token`, if it is the one that is running. Safe from any thread."""
        self._watch.unwanted = token

    def stop(self) -> None:
        """Stop the call that is running and any after it. Safe from any thread."""
        self._watch.stopped = True

    def syntax_error(self, code: str, *, expression: bool = False) -> ErrorInfo | None:
        """What is wrong with `code` as a chunk (or as one expression), or None. Runs nothing."""
        check = self._entry.check_expression if expression else self._entry.check_script
        message = check(_source(code))
        return None if message is None else frames.syntax_error(_text(message), code)

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
            return frames.syntax_error(_text(made[1]), code)
        return Chunk(made, needs, bare, code)

    def console(self, code: str) -> Chunk | ErrorInfo:
        """The chunk `code` for a console: its globals stay for those that follow. What it gives is lines, not JSON.

        Each value it returns is a line: JSON, or what `tostring` shows. The scope of the first one is that of all.
        """
        made = self._entry.console(_source(code))
        if type(made) is tuple:
            return frames.syntax_error(_text(made[1]), code)
        return Chunk(made, EVERYTHING, False, code)

    def template(self, modes: bytes, parts: list[bytes], codes: list[str]) -> Chunk | tuple[ErrorInfo, int]:
        """The compiled template of `parts` (see `sandbox.lua`); else the syntax error and the part that has it."""
        needs = reads(codes)
        made = self._compile_template(modes, self._state.table_from(parts), self._ids(needs))
        if type(made) is tuple:
            position = made[2] - 1
            return frames.syntax_error(_text(made[1]), _text(parts[position])), position
        return Chunk(made, needs, False)

    def position(self) -> int:
        """The part of a template, counted from 0, that the last error came from."""
        position = self._entry.position()
        return 0 if position is None else int(position) - 1

    def run(
        self,
        chunk: Chunk,
        scope: base.Scope,
        seed: int = 0,
        now: int = 0,
        timeout: int | None = None,
        lines: Lines | None = None,
        started: int | None = None,
        token: object = None,
        memory: int | None = None,
        output: int | None = None,
        given: Mapping[str, base.Value] | None = None,
    ) -> bytes | ErrorInfo:
        """Call `chunk`: its result as JSON, or why there is none.

        `seed` starts `math.random`, `now` (microseconds since the epoch) is what `os.time` answers, `timeout` is in
        microseconds and counts from `started` (`time.monotonic_ns()`; now, if not given), `lines` takes the log, some
        of it while the script runs, `token` names the call for `cancel`. `memory` and `output` are bytes, less than the
        runtime's own; `given` are more names in scope, with JSON values. Errors: `LuaError`, `ResultError` (the result
        is not JSON, or too big), `Timeout`, `Cancelled`, `MemoryLimit`, `InternalError`, and what the script says by
        `fail`, with `details`.
        """
        # Name the arguments; they are not keyword-only because Python takes 30 ns for each of those that is not given.
        watch = self._watch
        watch.lines = lines
        watch.running = token
        if timeout is None:
            watch.deadline = NEVER
        else:
            watch.deadline = (time.monotonic_ns() if started is None else started) + timeout * 1_000
        if self._held(total=True) > self._enough:
            self._tidy()
        if self._limited or memory is not None or output is not None:
            self._limit(memory, output)
        try:
            if chunk.bare:
                result = chunk.call()
            else:
                needs = chunk.reads
                arguments = self._arguments(needs, scope, seed, now)
                if given or needs.modules or needs.key or needs.execution:
                    self._more(needs, scope, given)
                result = chunk.call(*arguments)
                if needs.nodes is None:
                    self._values.nodes = None  # do not hold on to somebody's results
        except (lua.LuaError, MemoryError, ValueError, OverflowError, RecursionError) as exc:
            return self._escaped(exc)
        if type(result) is bytes:
            return result
        return self._unpacked(result, timeout, chunk, scope)

    def revive(self) -> None:
        """Use the runtime on although a script was stopped. What that script held is lost, what it changed is not."""
        self._watch.unwanted = self._watch.running = None
        self._entry.revive()
        self.broken = False

    def _tidy(self) -> None:
        """Collect what earlier calls left: Lua counts big texts for little, and would find no room beside them."""
        self._entry.collect()
        self._collected = self._held(total=True)
        self._enough = self._collected + self._max_memory // 16

    def _limit(self, memory: int | None, output: int | None) -> None:
        """Set the limits of the next call."""
        state, total = self._state, self._total
        self._limited = memory is not None or output is not None
        self._values.allowed = self._max_memory
        if memory is not None:
            # What other calls left behind is not held against this one; it is looked for when it has become much.
            if state.get_memory_used(total=True) - self._collected > memory // 4:
                self._tidy()
            total = min(total, state.get_memory_used(total=True) + memory)
            self._values.allowed = min(memory, self._max_memory)
        state.set_max_memory(total, total=True)
        self._entry.limit(total, self._max_output if output is None else min(output, self._max_output))

    def _unpacked(
        self, result: tuple[Any, ...], timeout: int | None, chunk: Chunk, scope: base.Scope
    ) -> bytes | ErrorInfo:
        if result[0] is not False:
            self._watch.write(result[1])
            value: bytes = result[0]
            return value
        _, kind, message, line, traceback, log, details, raised = result
        if raised is not None:
            self.broken = True
            raise raised
        if log:
            self._watch.write(log)
        told = frames.with_source(_text(traceback), chunk.code, scope.modules)
        return self._error(_text(kind), _text(message), line, told, timeout, details)

    def _error(
        self, kind: str, message: str, line: int, traceback: str, timeout: int | None, details: bytes | None = None
    ) -> ErrorInfo:
        if kind in BREAKING:
            self.broken = True
            message = stopped(kind, timeout=timeout, max_memory=self._values.allowed)
        given = msgspec.UNSET if details is None else msgspec.Raw(details)
        return ErrorInfo(type=kind, message=message, line=line, traceback=traceback, details=given)

    def _escaped(self, exc: Exception) -> ErrorInfo:
        """The error of a call that raised: while values were converted, on the way in or out."""
        self._values.nodes = None
        if isinstance(exc, MemoryError) or _OUT_OF_MEMORY in str(exc):
            return self._error("MemoryLimit", "", 0, "", None)
        try:
            explained = self._entry.explain()
        except (lua.LuaError, MemoryError):
            self.broken = True
            explained = None
        if isinstance(exc, lua.LuaError):
            if explained is None:
                self.broken = True
                return ErrorInfo(type="InternalError", message=str(exc))
            kind, message, log, details, raised = explained
            if log:
                self._watch.write(log)
            if raised is not None:
                self.broken = True
                raise raised
            return self._error(_text(kind), _text(message), 0, "", None, details)
        if isinstance(exc, OverflowError):
            return ErrorInfo(type="LuaError", message="a value in scope holds an integer outside 64 bits")
        return ErrorInfo(type="InternalError", message=f"a value in scope cannot be converted: {exc}")

    def _arguments(self, needs: Reads, scope: base.Scope, seed: int, now: int) -> list[Any]:
        for slot in self._values.rotate():
            self._entry.drop(slot)
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
            self._values.nodes = nodes
        else:
            for id in needs.nodes:
                value = nodes.get(id)
                arguments.append(None if value is None else self._packed(value))
        return arguments

    def _more(self, needs: Reads, scope: base.Scope, given: Mapping[str, base.Value] | None) -> None:
        """Hand over what few calls need: the next one finds it."""
        key = _source(scope.key) if needs.key and scope.key is not None else None
        execution = self._packed(scope.conclusion) if needs.execution and scope.conclusion is not None else None
        modules = self._module_set(scope.modules) if needs.modules and scope.modules else None
        names = None
        if given:
            packed = {_source(name): self._packed(value) for name, value in given.items()}
            self._values.must_fit(sum(len(value) for value in packed.values() if isinstance(value, bytes)))
            names = self._state.table_from(packed)
        if key is not None or execution is not None or modules is not None or names is not None:
            self._entry.more(key, execution, modules, names)

    def _module_set(self, modules: Mapping[str, str]) -> int:
        """The number under which Lua has these modules; each is compiled when it is first required, once."""
        for dropped in self._modules.rotate():
            self._entry.modules(dropped, None)
        content = tuple(modules.items())
        number = self._modules.get(content)
        if number is None:
            size = sum(len(code) for code in modules.values())
            self._values.must_fit(size)
            self._last_set = number = self._last_set + 1
            codes = {_source(name): _source(code) for name, code in modules.items()}
            self._entry.modules(number, self._state.table_from(codes))
            self._modules.put(content, number, size + _CHUNK_OVERHEAD)
        return number

    def _packed(self, value: bytes) -> bytes | int:
        """The value as MessagePack, or the slot where it lies converted: big ones are often read again, and kept."""
        if len(value) < SMALL:
            return _pack(_unpack(value))
        values = self._values
        packed = values.packed(value)
        if isinstance(packed, int):
            return packed
        self._keep(values.last_slot + 1, packed)
        return values.new_slot(value)

    def _ids(self, needs: Reads) -> Any:
        if needs.nodes == ():
            return None
        if needs.nodes is None:
            return True
        return self._state.table_from([id.encode() for id in needs.nodes])


def stopped(kind: str, *, timeout: int | None = None, max_memory: int = 0) -> str:
    """What is said of a script that was stopped for `kind`, one of `BREAKING`; microseconds, bytes."""
    if kind == "Timeout":
        return f"the script ran longer than its timeout of {(timeout or 0) / 1e6:g} s"
    if kind == "MemoryLimit":
        return f"the script needed more memory than the {max_memory / (1 << 20):g} MiB it may use"
    return "the attempt was cancelled"


def _meter(of: weakref.ref[Runtime]) -> Callable[[], int]:
    """Tells the bytes that a runtime holds. Lua holds the meter, so it must not hold the runtime."""

    def used() -> int:
        runtime = of()
        return 0 if runtime is None else runtime._state.get_memory_used(total=True)

    return used


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def _source(code: str) -> bytes:
    return code.encode("utf-8", "surrogatepass")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _no_attributes(_obj: object, name: object, _is_setting: bool) -> str:
    raise AttributeError(f"{name!r} cannot be reached from Lua")
