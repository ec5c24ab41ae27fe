"""One worker as the engine sees it: what it was handed, what it has not begun, what it reports.

It never waits: what a socket does not take at once is sent when it does. Used by `executor` and `pool`, on the event
loop's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import msgspec

from dagengine.executors import base
from dagengine.executors.lua.process.messages import LENGTH, REPORT, TOKEN, HandOff
from dagengine.executors.lua.process.orders import Code, Stock
from dagengine.executors.lua.turns import Done

__all__ = ["LONG", "Desk", "Handed", "Report", "Verdict"]

_READ: Final = 64 << 10
"""Bytes that are read at once: as much as can be had without asking the system for memory each time."""

LONG: Final = 2_000_000
"""Nanoseconds after which an attempt has become a long one: nothing is left to wait behind it."""

Verdict = Literal["Timeout", "Cancelled", "Killed"]
"""Why the engine kills a worker; `Killed` when it says what it should not."""

Report = tuple[int, int, bytes, int, int]
"""Kind, number of the attempt, body, microseconds, and when it ended."""

_encode = msgspec.msgpack.Encoder().encode


class Handed(NamedTuple):
    """An attempt that a worker was handed: its number there, its expected cost (µs), when it could begin (ns).

    `after` is the number of the attempt that must succeed first, 0 without one. When that has succeeded and is told of,
    this one is an attempt like any other.
    """

    number: int
    job: base.Job
    done: Done
    code: Code
    cost: float
    at: int
    after: int = 0


class Desk:
    """The engine's ends of a worker's sockets. `read` is called when there are reports, or the worker has ended."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop, read: Callable[[Desk], None]) -> None:
        self.number = number
        self.pid = 0
        self.ready = False
        self.proven = False
        """Whether it has ended an attempt, well or not: one that dies before has something wrong with it."""
        self.over = False
        """Whether it has closed its end."""
        self.orphaned = False
        """Whether nobody is left to tell what becomes of it."""
        self.verdict: Verdict | None = None
        self.stock = Stock()
        self.handed: deque[Handed] = deque()
        """What it was handed and has not reported the end of, in the order that it performs them."""
        self.load = 0.0
        """What all of that is expected to cost, in microseconds."""
        self.since = 0
        """When the last attempt ended (monotonic, ns), or when the one that is next had not begun yet."""
        self.promised = 0
        """The number of the last attempt that was said to be under way ahead of its time."""
        self.lines = 0
        """How many lines of the running attempt's log have come."""
        self.log_error: Exception | None = None
        self._loop = loop
        self._channel, self._their_channel = socket.socketpair()
        self._tokens, self._their_tokens = socket.socketpair()
        self._channel.setblocking(False)
        self._tokens.setblocking(False)
        self._unsent = memoryview(b"")
        self._unsent_tokens = memoryview(b"")
        self._blocked: socket.socket | None = None
        self._received = bytearray()
        self._told = -1
        loop.add_reader(self._channel, read, self)

    @property
    def ends(self) -> tuple[socket.socket, socket.socket]:
        """The worker's ends; the second stays open here, too, to take tokens back from."""
        return self._their_channel, self._their_tokens

    def given_away(self) -> None:
        """The worker's ends have been passed on: its channel ends with it from now on."""
        self._their_channel.close()

    def long(self, now: int) -> bool:
        """Whether the attempt that it performs has become a long one."""
        return now - self.began >= LONG

    @property
    def overdue(self) -> bool:
        """Whether what it performs has run into its timeout, if it has begun as early as it could."""
        if not self.handed or self.verdict is not None:
            return False
        timeout = self.handed[0].job.timeout
        return timeout is not None and time.monotonic_ns() - self.began >= timeout * 1_000

    def begun(self, number: int, at: int) -> None:
        """Take in that it has begun an attempt at `at`. What a worker says of an attempt after that does not count."""
        if number != self._told:
            self._told = number
            self.since = max(self.since, min(at, time.monotonic_ns()))

    @property
    def congested(self) -> bool:
        """Whether it has not even taken in what it was sent before."""
        return self._blocked is not None

    @property
    def began(self) -> int:
        """When the attempt that it performs now has begun (monotonic, ns), as far as is known: not before that."""
        return max(self.since, self.handed[0].at)

    def has_begun(self) -> bool:
        """Whether it has begun the first of what it was handed. If not, that begins now at the earliest."""
        waiting = bytes(self._unsent_tokens[: TOKEN.size])
        with contextlib.suppress(BlockingIOError):
            waiting = self._their_tokens.recv(TOKEN.size, socket.MSG_DONTWAIT | socket.MSG_PEEK)
        if waiting != TOKEN.pack(self.handed[0].number):
            return True
        self.since = time.monotonic_ns()
        return False

    def send(self, handed: HandOff) -> None:
        """Hand over; what is handed over has been appended to `handed` and `load` by the caller."""
        message = _encode(handed)
        # Before it may lie the rest of a hand-off that was taken back: the worker reads over it.
        self._unsent = memoryview(b"".join((self._unsent, LENGTH.pack(len(message)), message)))
        tokens = b"".join([TOKEN.pack(order.number) for order in handed.orders])
        self._unsent_tokens = memoryview(bytes(self._unsent_tokens) + tokens)
        self._flush()

    def _flush(self) -> None:
        self._stop_waiting()
        try:
            self._unsent = _rest(self._channel, self._unsent)
            # At once, too: a worker without a token reads nothing, and what it is sent may be more than a socket holds.
            self._unsent_tokens = _rest(self._tokens, self._unsent_tokens)
        except OSError:
            return  # it has died: `condemn` finds what it has not begun
        if self._unsent or self._unsent_tokens:
            self._blocked = self._channel if self._unsent else self._tokens
            self._loop.add_writer(self._blocked, self._flush)

    def _stop_waiting(self) -> None:
        blocked, self._blocked = self._blocked, None
        if blocked is not None:
            self._loop.remove_writer(blocked)

    def take_back(self, *, all: bool = False) -> list[Handed]:
        """What it has not begun, in order; it never will.

        The first attempt remains, unless `all` are wanted: a worker that gets no processor for a while has begun
        nothing, and must not look as if it had nothing to do.
        """
        taken = self._take_tokens()
        if all or self.handed or not taken:
            return taken
        self.handed.append(taken[0])
        self.load = taken[0].cost
        self._unsent_tokens = memoryview(TOKEN.pack(taken[0].number))
        self._flush()
        return taken[1:]

    def condemn(self) -> list[Handed]:
        """What it has not begun, when it has died or will be killed: it is sent nothing any more."""
        self._stop_waiting()
        return self._take_tokens()

    def _take_tokens(self) -> list[Handed]:
        tokens = bytes(self._unsent_tokens)
        self._unsent_tokens = memoryview(b"")
        with contextlib.suppress(BlockingIOError):
            # The worker waits on the same open socket, which must stay a blocking one: only this call is not.
            tokens += self._their_tokens.recv(_READ, socket.MSG_DONTWAIT)
        numbers = {number for (number,) in TOKEN.iter_unpack(tokens)}
        if not numbers:
            return []
        taken = [handed for handed in self.handed if handed.number in numbers]
        self.handed = deque(handed for handed in self.handed if handed.number not in numbers)
        self.load = sum(handed.cost for handed in self.handed)
        return taken

    def read(self) -> list[Report]:
        """The reports that have come."""
        try:
            data = self._channel.recv(_READ)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._channel)  # what it died of is told by the zygote
            self.over = True
            return []
        return self._parse(data)

    def read_all(self) -> list[Report]:
        """The reports that have come, all of them."""
        reports: list[Report] = []
        while True:
            try:
                data = self._channel.recv(_READ)
            except OSError:
                return reports
            if not data:
                return reports
            reports += self._parse(data)

    def _parse(self, data: bytes) -> list[Report]:
        received = self._received
        if received:
            received += data
            if len(received) < REPORT.size or len(received) < REPORT.size + REPORT.unpack_from(received)[2]:
                return []
            data = bytes(received)
            received.clear()
        reports: list[Report] = []
        at, end, head, unpack = 0, len(data), REPORT.size, REPORT.unpack_from
        while end - at >= head:
            kind, number, size, elapsed, ended = unpack(data, at)
            start = at + head
            if end - start < size:
                break
            at = start + size
            reports.append((kind, number, data[start:at], elapsed, ended))
        if at < end:
            received += data[at:]
        return reports

    def close(self) -> None:
        """Give the sockets back."""
        self._loop.remove_reader(self._channel)
        self._stop_waiting()
        for end in (self._channel, self._their_channel, self._tokens, self._their_tokens):
            end.close()


def _rest(end: socket.socket, unsent: memoryview) -> memoryview:
    """What of `unsent` the socket does not take now."""
    with contextlib.suppress(BlockingIOError):
        while unsent:
            unsent = unsent[end.send(unsent) :]
    return unsent
