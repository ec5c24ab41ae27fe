"""How a request did not succeed: one exception inside this room, an `Outcome` outside of it.

`fail` is what the other side, the document or the engine's rules said: the same again would most likely end the same.
`error` is what happened on the way. Their types are stable names for `retry_on` and `stop_on`, listed in docs/http.md.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import msgspec

from dagengine.events.facts import Conclusion, ErrorInfo
from dagengine.executors.base import Outcome

__all__ = ["Failure", "from_exception"]


class Failure(Exception):  # noqa: N818 - it names how an attempt ends
    """An attempt ends here. `status` is that of the response, where there was one; `retry_after` in microseconds."""

    def __init__(
        self, type: str, message: str, *, conclusion: Conclusion = "fail", status: int = 0, retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.type = type
        self.message = message
        self.conclusion = conclusion
        self.status = status
        self.retry_after = retry_after

    def outcome(self, *, where: str = "") -> Outcome:
        """The same as the outcome of an attempt; `where` is put before its message."""
        message = f"{where}: {self.message}" if where else self.message
        error = ErrorInfo(type=self.type, message=message)
        if self.status:
            details = msgspec.Raw(msgspec.json.encode({"status": self.status}))
            error = ErrorInfo(type=self.type, message=message, details=details)
        return Outcome(conclusion=self.conclusion, error=error, retry_after=self.retry_after)


def from_exception(exc: Exception) -> Failure:
    """What an exception of the client library comes to."""
    import httpcore

    if (tls := next((cause for cause in _chain(exc) if isinstance(cause, ssl.SSLError)), None)) is not None:
        return _error("TLSError", f"no secure connection: {_tls_words(tls)}")
    words = _words(exc)
    match exc:
        case httpcore.ConnectTimeout():
            return _error("ConnectError", "no connection in time")
        case httpcore.ConnectError():
            return _error("ConnectError", f"no connection: {words}")
        case httpcore.ProxyError():
            return _error("ProxyError", f"the proxy refused: {words}")
        case httpcore.RemoteProtocolError():
            return _error("ProtocolError", f"the response is not HTTP as it should be: {words}")
        case httpcore.LocalProtocolError():
            return Failure("RequestError", f"the request cannot be sent: {words}")
        case httpcore.NetworkError() | httpcore.TimeoutException():
            return _error("ConnectionLost", f"the connection broke: {words}")
    return _error(type(exc).__name__, f"the request could not be made: {words}")


def _error(type: str, message: str) -> Failure:
    return Failure(type, message, conclusion="error")


def _chain(exc: BaseException) -> Iterator[BaseException]:
    # By context: the client's pool raises its errors again "from None", which hides what caused them.
    current: BaseException | None = exc
    for _ in range(16):
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__


def _tls_words(exc: ssl.SSLError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the server's certificate was not accepted: {exc.verify_message or exc.reason}"
    return (exc.reason or str(exc) or "the other side gave up").replace("_", " ").lower()


def _words(exc: Exception) -> str:
    for cause in _chain(exc):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return str(exc) or "the other side gave up"
