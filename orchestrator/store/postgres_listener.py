"""Hears what other replicas have changed: a connection that listens, on a thread of its own.

Used by `postgres`. It is made again when it is lost. Whenever one has been made, every topic is called once: nobody
knows what was missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import threading
from collections.abc import Callable
from typing import Final, get_args

import psycopg

from orchestrator import errors
from orchestrator.store import base, postgres_connection, postgres_session

__all__ = ["Listener"]

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_TOPICS: Final[tuple[base.Topic, ...]] = get_args(base.Topic)


class Listener:
    """Calls `hear(topic)` on the event loop that made it. What `sender` has sent is its own and not heard."""

    def __init__(self, address: postgres_session.Address, hear: Callable[[base.Topic], None], *, sender: str) -> None:
        self._address = address
        self._hear = hear
        self._sender = sender
        self._loop = asyncio.get_running_loop()
        self._closed = threading.Event()
        self._ended, self._end = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"{address.name} listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear nothing more, and end the thread."""
        self._closed.set()
        os.close(self._end)  # wakes it
        self._thread.join()
        os.close(self._ended)

    # --- on the thread ---

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closed.is_set():
            with contextlib.suppress(psycopg.Error, errors.StoreError), self._address.connect("listener") as connection:
                connection.execute(f"LISTEN {postgres_connection.CHANNEL}")
                self._tell(dict.fromkeys(_TOPICS))
                pause = _FIRST_PAUSE
                self._listen(connection)
            self._closed.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _listen(self, connection: postgres_session.Driver) -> None:
        """Until the connection is lost, which raises psycopg.Error, or this is closed."""
        with selectors.DefaultSelector() as selector:
            selector.register(connection.fileno(), selectors.EVENT_READ)
            selector.register(self._ended, selectors.EVENT_READ)
            while not self._closed.is_set():
                selector.select()
                self._tell(self._received(connection.pgconn))

    def _received(self, connection: psycopg.pq.abc.PGconn) -> dict[base.Topic, None]:
        connection.consume_input()
        received: dict[base.Topic, None] = {}
        while (notice := connection.notifies()) is not None:
            topic, _, sender = notice.extra.decode(errors="replace").partition(" ")
            if sender != self._sender:
                received.update((known, None) for known in _TOPICS if known == topic)
        return received

    def _tell(self, topics: dict[base.Topic, None]) -> None:
        if topics:
            # A loop that was closed without closing the store has nobody left who listens.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._call, tuple(topics))

    def _call(self, topics: tuple[base.Topic, ...]) -> None:
        for topic in topics:
            if not self._closed.is_set():
                self._hear(topic)
