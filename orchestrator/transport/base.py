"""The transport port: links to engines, and who listens to them.

A link belongs to one address. It dials, opens a session, keeps it up and dials again, until it is closed. The
dispatcher listens; it reconciles whenever a session begins, so nothing that is sent between sessions needs to be kept.
"""

from __future__ import annotations

from typing import Protocol

from dagengine.wire.v1 import session_pb2

__all__ = ["Link", "Listener", "Transport"]


class Listener(Protocol):
    """Hears what links have to say. Calls for one link come one at a time, in order."""

    async def connected(self, link: Link, hello: session_pb2.EngineHello) -> None:
        """A session has begun. `link.send` works from here on; what the engine still holds wants an answer."""

    async def received(self, link: Link, message: session_pb2.EngineMessage) -> None:
        """A message came. The next one is read when this returns: that is the backpressure.

        When it raises, the session is ended and another one begun: what was not acknowledged comes again.
        """

    def disconnected(self, link: Link, reason: str) -> None:
        """A session has ended, or an attempt to begin one has failed. The link tries on until it is closed."""


class Link(Protocol):
    """One engine, as seen from here."""

    @property
    def address(self) -> str:
        """Where it is dialled."""

    @property
    def engine_id(self) -> str:
        """The id that the engine gave in its last hello; empty before the first."""

    @property
    def connected(self) -> bool:
        """Whether a session is up."""

    @property
    def reason(self) -> str:
        """Why no session is up, for people; empty while one is, and before the first attempt has ended."""

    def send(self, message: session_pb2.OrchestratorMessage) -> None:
        """Queue a message; the order of what is sent is kept. Does not wait; dropped when no session is up.

        A large message goes in parts. TransportError when one command of it is more than a session carries.
        """

    async def room(self) -> None:
        """Return when little enough waits to be sent, or no session is up: whoever sends much asks now and then."""

    async def check(self) -> str:
        """How the engine says it is, beside the session: empty when it is well, or why it is not.

        TransportError when it does not say. Whoever asks bounds the time.
        """

    async def run(self) -> None:
        """Keep a session up until `close`."""

    async def close(self) -> None:
        """End the session and stop trying. Returns when it has ended; `disconnected` is called if it was up."""


class Transport(Protocol):
    """Makes links."""

    def link(self, address: str, listener: Listener) -> Link:
        """A link to the engine at `address`. It does nothing until it is run."""
