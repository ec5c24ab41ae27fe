"""Lines from a terminal, and what Ctrl-C means in a session there: an end to what is done, never to the session.

As long as a `Terminal` is open, SIGINT is its own. Only where a line is read does the signal raise anything, once, and
what it raises is caught there. Everywhere else it is noted and told to who can stop what runs: nothing is torn, be it a
line that is shown or the handling of the Ctrl-C before. `lua_session` is the user.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final, Self

__all__ = ["Terminal"]

_LOOK: Final = 0.1
"""Seconds after which reading looks again whether there was a signal: one may come right before it begins to wait."""


class Terminal:
    """For the main thread. When it is closed, Ctrl-C does nothing any more: the end of the process is all that follows.

    `at_interrupt` is called at a Ctrl-C outside of `read`, wherever the program is then: it sets a flag and no more.
    """

    def __init__(self, at_interrupt: Callable[[], None]) -> None:
        self._at_interrupt = at_interrupt
        self._line = _line_editor()
        self._reading = False
        self._interrupted = False

    def __enter__(self) -> Self:
        signal.signal(signal.SIGINT, self._take)
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, _ignore)
            signal.setitimer(signal.ITIMER_REAL, _LOOK, _LOOK)
        return self

    def __exit__(self, *_exc: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)

    def read(self, prompt: str) -> str | None:
        """The next line; None after Ctrl-C, be it now or since it was last asked for. Raises EOFError at the end."""
        try:
            try:
                self._reading = True
                return None if self.interrupted() else self._line(prompt)
            finally:
                self._reading = False
        except KeyboardInterrupt:
            return None
        except SystemError as exc:
            # `input` calls handlers once more when one has raised, and is appalled that the second signal's returns.
            if not isinstance(exc.__cause__, KeyboardInterrupt):
                raise
            return None

    def interrupted(self) -> bool:
        """Whether there was a Ctrl-C since this, or `read`, last told of one. Several at once are one."""
        interrupted, self._interrupted = self._interrupted, False
        return interrupted

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        if self._reading:
            self._reading = False  # what is raised is on its way out of `read`: nothing may come on top of it
            raise KeyboardInterrupt
        self._interrupted = True
        self._at_interrupt()


def _line_editor() -> Callable[[str], str]:
    """Reads a line from a terminal. `input` edits with readline once that is imported."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # imported for its effect on `input`
    return input


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Does nothing: to be called is what makes reading look for other signals."""
