"""Redirects: followed when the node says so, each one judged anew, and secrets stay with the host that they are for."""

from __future__ import annotations

import pytest

from dagengine.executors.http import Policy

AUTH = {"type": "header", "name": "X-API-Key", "secret": "k"}


async def test_redirects_are_not_followed_by_default(requests, server, replies) -> None:
    server.answers["/"] = replies(status=302, Location="/next")
    conclusion, type, message = await requests.fails(server.url())
    assert (conclusion, type) == ("fail", "HTTP302")
    assert message.endswith("the status is 302, and `redirects` says to follow none")
    assert len(server.received) == 1


async def test_as_many_are_followed_as_the_node_says(requests, server, replies) -> None:
    server.answers["/a"] = replies(status=301, Location="b?x=1")
    server.answers["/b"] = replies(status=307, Location=server.url("/c"))
    server.answers["/c"] = replies(body="there", kind="text/plain")
    assert await requests.value(server.url("/a"), redirects=2) == "there"
    assert [one.target for one in server.received] == ["/a", "/b?x=1", "/c"]
    assert (await requests.fails(server.url("/a"), redirects=1, node="b"))[1] == "RedirectError"


async def test_a_circle_ends(requests, server, replies) -> None:
    server.answers["/"] = replies(status=302, Location="/")
    conclusion, type, message = await requests.fails(server.url(), redirects=20)
    assert (conclusion, type) == ("fail", "RedirectError")
    assert "redirects again after 20 redirects" in message
    assert len(server.received) == 21


@pytest.mark.parametrize(
    ("status", "method", "after", "body"),
    [
        (301, "POST", "GET", b""),
        (302, "POST", "GET", b""),
        (303, "PUT", "GET", b""),
        (303, "HEAD", "HEAD", b""),
        (302, "PUT", "PUT", b"[1]"),
        (307, "POST", "POST", b"[1]"),
        (308, "POST", "POST", b"[1]"),
    ],
)
async def test_the_method_after_a_redirect(requests, server, replies, status, method, after, body) -> None:
    server.answers["/a"] = replies(status=status, Location="/b")
    server.answers["/b"] = replies(body=b"" if after == "HEAD" else b"1")
    spec = {} if method == "HEAD" else {"json": [1]}
    await requests.value(server.url("/a"), method=method, redirects=1, **spec)
    request = server.received[1]
    assert (request.method, request.body) == (after, body)
    assert ("idempotency-key" in request.headers) == (after not in ("GET", "HEAD"))
    assert ("content-type" in request.headers) == bool(body)


class TestSecrets:
    async def test_they_go_on_to_the_same_host_and_port(self, make, server, replies) -> None:
        server.answers["/a"] = replies(status=307, Location="/b")
        server.answers["/b"] = replies(body=1)
        await make(secrets={"k": "s3cret"}).value(server.url("/a"), redirects=1, auth=AUTH, headers={"Cookie": "c=1"})
        assert [(one.headers["x-api-key"], one.headers["cookie"]) for one in server.received] == [("s3cret", "c=1")] * 2

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    async def test_they_are_sent_to_no_other(self, make, server, other, replies, host) -> None:
        to = other if host == "127.0.0.1" else server  # another port, another name
        server.answers["/a"] = replies(status=307, Location=to.url("/b", host=host))
        to.answers["/b"] = replies(status=307, Location=server.url("/c"))
        server.answers["/c"] = replies(body=1)
        headers = {"Cookie": "c=1", "X-Plain": "fine"}
        await make(secrets={"k": "s3cret"}).value(server.url("/a"), redirects=2, auth=AUTH, headers=headers)
        seen = [one.headers for one in (*server.received, *other.received)]
        assert sum("x-api-key" in one for one in seen) == sum("cookie" in one for one in seen) == 1
        assert all(one["x-plain"] == "fine" for one in seen)

    async def test_an_authorization_of_the_node_s_own_is_not_either(self, requests, server, other, replies) -> None:
        server.answers["/"] = replies(status=302, Location=other.url("/b"))
        other.answers["/b"] = replies(body=1)
        await requests.value(server.url(), redirects=1, headers={"authorization": "Bearer x"})
        assert "authorization" in server.received[0].headers
        assert "authorization" not in other.received[0].headers


class TestPlaces:
    @pytest.mark.parametrize(
        "to", ["http://169.254.169.254/latest/meta-data", "http://[::1]:1/", "//10.0.0.1/", "http://2130706433:1/"]
    )
    async def test_a_redirect_opens_nothing_that_is_closed(self, make, server, replies, to) -> None:
        server.answers["/"] = replies(status=302, Location=to)
        requests = make(Policy(allow=(f"127.0.0.1:{server.port}",)))
        conclusion, type, message = await requests.fails(server.url(), redirects=5)
        assert (conclusion, type) == ("fail", "Forbidden")
        assert "ENGINE_HTTP_ALLOW" in message

    @pytest.mark.parametrize("to", ["ftp://example.com/", "file:///etc/passwd", "http://u:p@127.0.0.1/", "http://a:x/"])
    async def test_a_redirect_to_what_cannot_be_asked_is_a_failure(self, requests, server, replies, to) -> None:
        server.answers["/"] = replies(status=302, Location=to)
        conclusion, type, message = await requests.fails(server.url(), redirects=5)
        assert (conclusion, type) == ("fail", "RedirectError")
        assert "u:p" not in message

    async def test_encryption_is_not_given_up(self, make, secure, server, replies, certificate) -> None:
        secure.answers["/"] = replies(status=302, Location=server.url())
        requests = make(Policy(allow=("127.0.0.1",), ca=certificate))
        conclusion, type, message = await requests.fails(secure.url(), redirects=5)
        assert (conclusion, type) == ("fail", "RedirectError")
        assert "which is not encrypted" in message
        assert server.connections == 0
