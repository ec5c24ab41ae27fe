"""Jobs as what a worker is sent: only what the code reads, and nothing big that the worker has already.

Used by `executor`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from dagengine.clock import Clock
from dagengine.executors import base
from dagengine.executors.lua.cache import Generations
from dagengine.executors.lua.chunk import Reads, reads
from dagengine.executors.lua.process.messages import Extra, HandOff, Order
from dagengine.spec.model import LuaExecutor

__all__ = ["Code", "Codes", "Draft", "Stock"]

SMALL: Final = 1024
"""Bytes below which a value is sent with every attempt that reads it."""

UNKNOWN_COST: Final = 1_000.0
"""Microseconds that an attempt is taken to need whose code was never performed."""

_CODES: Final = 4096
_CODE_BYTES: Final = 4 << 20
_VALUE_BYTES: Final = 8 << 20
_FALLING: Final = 0.5
_RISING: Final = 0.2
_OUTLIER: Final = 3.0
_LAST_ORDER: Final = (1 << 32) - 1

_SPEAKS: Final = re.compile(r"\b(?:print|log)\b")

_NONE_MADE: Final[Mapping[str, int]] = MappingProxyType({})

_json = msgspec.json.Encoder().encode


class Code:
    """A piece of code: what it reads, and what an attempt at it has cost lately, in microseconds."""

    __slots__ = ("ahead", "cost", "rare", "reads", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.reads: Reads = reads([text])
        self.rare = self.reads.key or self.reads.execution or self.reads.modules
        needs = self.reads
        self.ahead = not (needs.time or needs.nodes is None or _SPEAKS.search(text))
        """Whether it may be performed before its start is known: nobody sees that it was, and it sees no difference."""
        self.cost = UNKNOWN_COST

    def learn(self, elapsed: int) -> None:
        """Take in that an attempt took `elapsed` microseconds.

        Once is not a rule: on a busy machine a short attempt takes long now and then, because another process had the
        processor. So costs are quick to fall and slow to rise.
        """
        if self.cost == UNKNOWN_COST:
            self.cost = elapsed + 1.0
        elif elapsed < self.cost:
            self.cost += (elapsed + 1.0 - self.cost) * _FALLING
        else:
            self.cost += (min(elapsed, _OUTLIER * self.cost) + 1.0 - self.cost) * _RISING


class Codes:
    """What is known of the code that was seen lately."""

    def __init__(self) -> None:
        self._codes: Generations[str, Code] = Generations(_CODES)

    def of(self, text: str) -> Code:
        """What is known of the code `text`."""
        code = self._codes.get(text)
        if code is None:
            self._codes.rotate()
            code = Code(text)
            self._codes.put(text, code)
        return code


class Stock:
    """What one worker has: the numbers of code and of values that were sent to it. Bounded."""

    def __init__(self) -> None:
        self.codes: Generations[str, int] = Generations(_CODE_BYTES)
        self.values: Generations[bytes, int] = Generations(_VALUE_BYTES)
        self.last = 0
        self.last_order = 0


class Draft:
    """A hand-off in the making, for the worker that has `stock`. `size` counts the bytes of what is new to it.

    `at` is when it is handed over (monotonic, ns).
    """

    def __init__(self, stock: Stock, *, clock: Clock, max_memory: int, at: int) -> None:
        self._stock = stock
        self._clock = clock
        self._max_memory = max_memory
        self._read = 0
        self._modules: Mapping[str, str] | None = None
        self._modules_encoded = b""
        self.size = 0
        self.handed = HandOff([], {}, {}, stock.codes.rotate(), stock.values.rotate(), at)

    def add(
        self,
        code: Code,
        job: base.Job,
        spec: LuaExecutor,
        *,
        after: int = 0,
        made: Mapping[str, int] = _NONE_MADE,
    ) -> int:
        """Append the order for `job`, whose `spec` has the code `code`: its number.

        `after` is that of the order that must have succeeded, `made` those of nodes whose results will be there then.
        Raises ValueError or TypeError when its scope cannot be sent, MemoryError when no script could hold it.
        """
        self._read = 0
        stock, needs = self._stock, code.reads
        known = stock.codes.get(code.text)
        if known is None:
            known = self._new_code(code.text)
        number = stock.last_order % _LAST_ORDER + 1  # 0 is that of none
        extra = self._extra(needs, job, spec) if code.rare or spec.memory or spec.output else None
        if needs.nothing:
            order = Order(number, known, extra=extra, after=after)
        else:
            order = self._order(number, known, needs, job, extra, after, made)
        self.handed.orders.append(order)
        stock.last_order = number
        return number

    def _order(
        self,
        number: int,
        code: int,
        needs: Reads,
        job: base.Job,
        extra: Extra | None,
        after: int,
        made: Mapping[str, int],
    ) -> Order:
        scope = job.scope
        return Order(
            number,
            code,
            self._packed(scope.inputs) if needs.inputs else None,
            self._nodes(needs.nodes, scope.nodes, made),
            self._packed(_json(scope.env)) if needs.env else None,
            self._packed(scope.item) if needs.item and scope.item is not None else None,
            scope.index,
            job.seed if needs.randomness else 0,
            self._clock.now() if needs.time else 0,
            extra,
            after,
        )

    def _extra(self, needs: Reads, job: base.Job, spec: LuaExecutor) -> Extra:
        scope = job.scope
        conclusion, modules = scope.conclusion, scope.modules
        return Extra(
            scope.key if needs.key else None,
            self._packed(conclusion) if needs.execution and conclusion is not None else None,
            self._packed(self._encoded(modules)) if needs.modules and modules else None,
            spec.memory,
            spec.output,
        )

    def _encoded(self, modules: Mapping[str, str]) -> bytes:
        if self._modules is not modules:
            self._modules, self._modules_encoded = modules, _json(modules)
        return self._modules_encoded

    def _nodes(
        self, ids: tuple[str, ...] | None, results: base.Results, made: Mapping[str, int]
    ) -> dict[str, bytes | int] | None:
        if ids is None:
            return {id: self._packed(value) for id, value in results.items()}
        if not ids:
            return None
        found: dict[str, bytes | int] = {}
        for id in ids:
            if id in made:
                found[id] = -made[id]
            elif (value := results.get(id)) is not None:
                found[id] = self._packed(value)
        return found

    def _packed(self, value: bytes) -> bytes | int:
        self._read += len(value)
        if self._read > self._max_memory:
            raise MemoryError
        if len(value) < SMALL:
            self.size += len(value)
            return value
        stock = self._stock
        number = stock.values.get(value)
        if number is None:
            number = stock.last = stock.last + 1
            stock.values.put(value, number, len(value))
            self.handed.values[number] = value
            self.size += len(value)
        return number

    def _new_code(self, text: str) -> int:
        stock, source = self._stock, text.encode("utf-8", "surrogatepass")
        number = stock.last = stock.last + 1
        stock.codes.put(text, number, len(source) + SMALL)
        self.handed.codes[number] = source
        self.size += len(source)
        return number
