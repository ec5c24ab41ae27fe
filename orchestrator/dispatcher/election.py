"""The port to an election outside the store: who may lead the replicas, and under which term.

Without one, the replicas elect their leader in the store, by being replicas (`membership`). With one, the store keeps
the last word: the elected one tells it its term, and the store takes none that is not higher than all before. So an
election may be wrong for a while (two of them may believe to have won), and no harm is done.

The one adapter is `orchestrator.kubernetes.lease`. Used by `membership`, which follows it, and by the dispatcher.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Election"]


class Election(Protocol):
    """The candidacy of this replica."""

    @property
    def term(self) -> int | None:
        """The term that this replica was elected for; None while somebody else is, or nobody.

        It stays while whoever counts the votes cannot be asked: nobody else can have been elected then.
        """

    @property
    def trouble(self) -> str:
        """Why nobody can be elected now, for people; empty while nothing stands against it."""

    def look(self) -> None:
        """Something may have changed about who is elected: find out now."""

    def outbid(self, term: int) -> None:
        """Others have led under `term`: only a higher one is worth anything from here on."""

    async def run(self, changed: Callable[[], None], *, fit: Callable[[], bool]) -> None:
        """Stand for election until cancelled; `changed` is called after `term` has changed.

        While this replica is not `fit` to lead, being out of touch with the store, others may be elected.
        """

    async def release(self) -> None:
        """Stand no longer, and let somebody else be elected at once. Takes a few seconds at most, and never fails."""
