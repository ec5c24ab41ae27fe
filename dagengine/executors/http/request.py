"""The request that a node makes: from its executor model, its evaluated templates and a secret.

Nothing here touches the network. What cannot be sent is a `Failure` of type `RequestError`, which names the part and
never quotes a header or a query: these hold what people keep to themselves.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpcore
import httpx
import msgspec

from dagengine.executors.base import Value
from dagengine.executors.http.failure import Failure
from dagengine.executors.secrets import Mask, Secrets
from dagengine.spec.executors import BasicAuth, BearerAuth, HeaderAuth, HTTPExecutor

__all__ = ["Request", "build", "redirected", "shown"]

Header = tuple[bytes, bytes]

_LONGEST_URL: Final = 65_536
_SHOWN: Final = 200
_PORTS: Final = {"http": 80, "https": 443}
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SAFE: Final = ("GET", "HEAD")
_PRIVATE: Final = (b"authorization", b"cookie", b"proxy-authorization")
_OF_THE_BODY: Final = (b"content-type", b"content-encoding", b"content-language", b"content-location")


class _Arguments(msgspec.Struct, kw_only=True):
    """The evaluated templates. `json` stays as it is written: a number is not changed on its way through."""

    url: str
    query: dict[str, Any] = {}
    headers: dict[str, Any] = {}
    json: msgspec.Raw = msgspec.Raw(b"null")
    form: dict[str, Any] = {}
    body: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent. `private` are the headers that no other host than the first may see; `mask` hides the secret."""

    method: str
    url: httpx.URL
    headers: tuple[Header, ...]
    private: tuple[Header, ...] = ()
    content: bytes | None = None
    mask: Mask = dataclasses.field(default_factory=lambda: Mask(()))

    @property
    def port(self) -> int:
        """The port that it goes to."""
        return self.url.port or _PORTS[self.url.scheme]

    def on_the_wire(self, *, timeout: float) -> httpcore.Request:
        """The same for the client library. `timeout` is the seconds that connecting may take."""
        url = httpcore.URL(
            scheme=self.url.raw_scheme, host=self.url.raw_host, port=self.url.port, target=self.url.raw_path
        )
        host = b"[%b]" % url.host if b":" in url.host else url.host
        place = host if self.port == _PORTS[self.url.scheme] else b"%b:%d" % (host, self.port)
        length = [] if self.content is None else [(b"Content-Length", b"%d" % len(self.content))]
        return httpcore.Request(
            self.method,
            url,
            headers=[(b"Host", place), *self.headers, *self.private, *length],
            content=self.content,
            extensions={"timeout": {"connect": timeout}},
        )


def build(spec: HTTPExecutor, args: Value | None, *, key: str, secrets: Secrets) -> Request:
    """The first request of an attempt. Raises Failure (`RequestError`) and SecretMissing."""
    try:
        arguments = msgspec.json.decode(args or b"{}", type=_Arguments)
    except msgspec.MsgspecError as exc:
        raise _wrong(f"its values do not fit: {exc}") from exc
    url = _url(arguments.url)
    if arguments.query:
        more = urlencode(list(_pairs("query", arguments.query)), quote_via=quote)
        url = url.copy_with(query=b"&".join(filter(None, (url.query, more.encode()))))
    content, content_type = _content(spec, arguments)
    private, values = _authentication(spec, secrets)
    headers = _headers(spec, arguments.headers, content_type=content_type, key=key)
    own = {name.lower() for name, _ in private}
    return Request(
        method=spec.method,
        url=url,
        headers=tuple(header for header in headers if header[0].lower() not in (*_PRIVATE, *own)),
        private=(*private, *(one for one in headers if one[0].lower() in _PRIVATE and one[0].lower() not in own)),
        content=content,
        mask=Mask(values),
    )


def redirected(request: Request, status: int, location: str) -> Request:
    """The request after a redirect: without its private headers when it goes to another host, port or scheme.

    As browsers do it, 303 always and 301 and 302 after a POST go on with a GET without the body. Raises Failure
    (`RedirectError`) for a place that is none, and for one that gives up on encryption.
    """
    try:
        url = _url(str(request.url.join(location)))
    except (Failure, httpx.InvalidURL) as exc:
        reason = exc.message if isinstance(exc, Failure) else "it is not a URL"
        raise Failure("RedirectError", f"the redirect leads to no place that can be asked: {reason}") from exc
    if request.url.scheme == "https" and url.scheme == "http":
        raise Failure("RedirectError", f"the redirect leads from https to {shown(url)}, which is not encrypted")
    after = dataclasses.replace(request, url=url)
    if (after.url.scheme, after.url.host, after.port) != (request.url.scheme, request.url.host, request.port):
        after = dataclasses.replace(after, private=())
    if (status == 303 and request.method != "HEAD") or (status in (301, 302) and request.method == "POST"):
        gone = (*_OF_THE_BODY, b"idempotency-key")
        kept = tuple(header for header in request.headers if header[0].lower() not in gone)
        after = dataclasses.replace(after, method="GET", content=None, headers=kept)
    return after


def shown(url: httpx.URL) -> str:
    """A URL for people: without its query, which may hold what nobody should read."""
    port = f":{url.port}" if url.port else ""
    host = f"[{url.host}]" if ":" in url.host else url.host
    path = url.raw_path.partition(b"?")[0].decode("ascii", "replace")
    text = f"{url.scheme}://{host}{port}{path}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _url(text: str) -> httpx.URL:
    if len(text) > _LONGEST_URL:
        raise _wrong(f"its URL is longer than {_LONGEST_URL:,} characters")
    try:
        url = httpx.URL(text.strip())
    except httpx.InvalidURL as exc:
        raise _wrong("its URL is not one: " + str(exc).partition(", '")[0].rstrip(".")) from None
    if url.scheme not in ("http", "https"):
        raise _wrong("its URL must begin with http:// or https://")
    if not url.host or "%" in url.host:
        raise _wrong("its URL names no host")
    if url.userinfo:
        raise _wrong("its URL holds a user name or a password: say them in `auth`")
    if url.port is not None and not 0 < url.port < 65_536:
        raise _wrong(f"its URL has the port {url.port}, and ports are 1 to 65535")
    return url.copy_with(fragment=None)


def _content(spec: HTTPExecutor, arguments: _Arguments) -> tuple[bytes | None, str]:
    if spec.json_body is not None:
        return bytes(arguments.json), "application/json"
    if spec.form:
        fields = urlencode(list(_pairs("form", arguments.form)))
        return fields.encode(), "application/x-www-form-urlencoded"
    if spec.body is not None:
        if not isinstance(arguments.body, str):
            raise _wrong("its `body` is not a text: send other values with `json`")
        return arguments.body.encode(), "text/plain; charset=utf-8"
    return (b"" if spec.method in ("POST", "PUT", "PATCH") else None), ""


def _headers(spec: HTTPExecutor, given: Mapping[str, Any], *, content_type: str, key: str) -> list[Header]:
    headers = [
        (name.encode("ascii"), _header_value(name, _text("headers", name, value)))
        for name, value in given.items()
        if value is not None
    ]
    defaults = {"User-Agent": _user_agent(), "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
    if content_type:
        defaults["Content-Type"] = content_type
    if key and spec.method not in _SAFE:
        defaults["Idempotency-Key"] = quote(key, safe="/[]:@")
    known = {name.lower() for name, _ in headers}
    headers += [
        (name.encode(), value.encode()) for name, value in defaults.items() if name.lower().encode() not in known
    ]
    return headers


def _authentication(spec: HTTPExecutor, secrets: Secrets) -> tuple[tuple[Header, ...], tuple[str, ...]]:
    """The header that proves who asks, and all that must be masked."""
    match spec.auth:
        case None:
            return (), ()
        case BearerAuth(secret=secret):
            token = secrets.value(secret)
            return ((b"Authorization", _header_value(secret, f"Bearer {token}")),), (token,)
        case BasicAuth(username=username, secret=secret):
            password = secrets.value(secret)
            pair = base64.b64encode(f"{username}:{password}".encode()).decode()
            return ((b"Authorization", f"Basic {pair}".encode()),), (password, pair)
        case HeaderAuth(name=name, secret=secret):
            value = secrets.value(secret)
            return ((name.encode(), _header_value(secret, value)),), (value,)


def _pairs(part: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        for one in value if isinstance(value, list) else (value,):
            if one is not None:
                yield name, _text(part, name, one)


def _text(part: str, name: str, value: object) -> str:
    match value:
        case str():
            return value
        case bool() | int() | float():
            return msgspec.json.encode(value).decode()
    raise _wrong(f"`{part}.{name}` is neither a text nor a number")


def _header_value(name: str, value: str) -> bytes:
    if _CONTROL.search(value):
        raise _wrong(f"the value of '{name}' does not fit into a header: it has more than one line")
    return value.strip().encode()


@functools.cache
def _user_agent() -> str:
    return f"dagengine/{metadata.version('dagengine')}"


def _wrong(message: str) -> Failure:
    return Failure("RequestError", f"the request cannot be made: {message}")
