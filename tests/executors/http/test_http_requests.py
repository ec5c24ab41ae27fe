"""What is sent: method, URL, query, headers, bodies, credentials; and that nothing is sent that cannot be."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from dagengine.executors.http import Policy


async def test_a_get_is_sent_with_what_every_server_wants_to_know(requests, server, replies) -> None:
    server.answers["/a b"] = replies(body={})
    server.answers["/a%20b"] = replies(body={"fine": True})
    assert await requests.value(server.url("/a b?x=1#part"), query={"q": "ü&=", "n": 2}) == {"fine": True}
    request = server.received[0]
    assert (request.method, request.target, request.body) == ("GET", "/a%20b?x=1&q=%C3%BC%26%3D&n=2", b"")
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["user-agent"].startswith("dagengine/")
    assert request.headers["accept-encoding"] == "gzip, deflate"
    assert "content-length" not in request.headers
    assert "idempotency-key" not in request.headers


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ({"a": [1, 2], "b": None, "c": True, "d": 1.5}, "a=1&a=2&c=true&d=1.5"),
        ({"a": "x y+z"}, "a=x%20y%2Bz"),
        ({"a": []}, ""),
    ],
)
async def test_lists_repeat_a_parameter_and_null_leaves_it_out(requests, server, replies, query, sent) -> None:
    server.answers["/"] = replies(body={})
    await requests.value(server.url("/"), query=query)
    assert server.received[0].target.partition("?")[2] == sent


async def test_a_json_body_is_sent_as_it_was_written(requests, server, replies) -> None:
    server.answers["/"] = replies(body={})
    await requests.value(server.url(), method="POST", json={"n": 12345678901234567890123, "t": "ü", "f": 1.0})
    request = server.received[0]
    assert request.body == '{"n":12345678901234567890123,"t":"ü","f":1.0}'.encode()
    assert request.headers["content-type"] == "application/json"


async def test_a_json_body_that_comes_to_null_is_sent_as_null(requests, server, replies) -> None:
    server.answers["/"] = replies(body={})
    await requests.value(server.url(), method="PUT", json="{{ nothing }}", args={"json": None})
    assert server.received[0].body == b"null"


async def test_a_form_is_encoded(requests, server, replies) -> None:
    server.answers["/"] = replies(body={})
    await requests.value(server.url(), method="POST", form={"a": "1 2", "b": "&"})
    assert server.received[0].body == b"a=1+2&b=%26"
    assert server.received[0].headers["content-type"] == "application/x-www-form-urlencoded"


async def test_a_plain_body_is_sent_as_it_is_and_its_type_can_be_said(requests, server, replies) -> None:
    server.answers["/"] = replies(body={})
    await requests.value(server.url(), method="PATCH", body="<a/>", headers={"content-type": "text/xml", "X-N": "1"})
    request = server.received[0]
    assert (request.body, request.headers["content-type"], request.headers["x-n"]) == (b"<a/>", "text/xml", "1")


async def test_a_post_without_body_says_that_it_is_empty(requests, server, replies) -> None:
    server.answers["/"] = replies(body={})
    await requests.value(server.url(), method="POST")
    assert server.received[0].headers["content-length"] == "0"


async def test_what_changes_things_carries_the_key_of_the_attempt(requests, server, replies) -> None:
    server.answers["/"] = replies(body={})
    await requests.value(server.url(), method="POST", key="e-1/load[3]/2")
    await requests.value(server.url(), method="DELETE", key="e ü/n/1", node="b")
    await requests.value(server.url(), method="POST", headers={"idempotency-key": "mine"}, node="c")
    assert [one.headers["idempotency-key"] for one in server.received] == ["e-1/load[3]/2", "e%20%C3%BC/n/1", "mine"]


class TestCredentials:
    async def test_a_bearer_token(self, make, server, replies) -> None:
        server.answers["/"] = replies(body={})
        await make(secrets={"t": "s3cret"}).value(server.url(), auth={"type": "bearer", "secret": "t"})
        assert server.received[0].headers["authorization"] == "Bearer s3cret"

    async def test_a_user_and_a_password(self, make, server, replies) -> None:
        server.answers["/"] = replies(body={})
        await make(secrets={"p": "pä:ss"}).value(server.url(), auth={"type": "basic", "username": "ada", "secret": "p"})
        kind, _, pair = server.received[0].headers["authorization"].partition(" ")
        assert (kind, base64.b64decode(pair).decode()) == ("Basic", "ada:pä:ss")

    async def test_a_header_of_its_own(self, make, server, replies) -> None:
        server.answers["/"] = replies(body={})
        await make(secrets={"k": "s3cret"}).value(
            server.url(), auth={"type": "header", "name": "X-API-Key", "secret": "k"}
        )
        assert server.received[0].headers["x-api-key"] == "s3cret"

    async def test_a_missing_secret_is_named_and_nothing_is_sent(self, make, server) -> None:
        conclusion, type, message = await make().fails(server.url(), auth={"type": "bearer", "secret": "nope"})
        assert (conclusion, type) == ("error", "SecretMissing")
        assert "nope" in message
        assert server.connections == 0

    async def test_a_secret_that_is_no_header_is_not_shown(self, make, server) -> None:
        _, type, message = await make(secrets={"t": "two\nlines"}).fails(
            server.url(), auth={"type": "bearer", "secret": "t"}
        )
        assert (type, "lines" in message.replace("more than one line", "")) == ("RequestError", False)
        assert "the value of 't' does not fit into a header" in message
        assert server.connections == 0

    async def test_what_a_server_repeats_is_masked_everywhere(self, make, server, replies) -> None:
        secret = "s3cret/with+all=sorts"
        requests = make(secrets={"t": secret})
        auth = {"type": "bearer", "secret": "t"}
        server.answers["/ok"] = replies(body=b'{"got": "Bearer s3cret\\/with+all=sorts", "n": 1}')
        server.answers["/no"] = replies(body=f"your token is {secret}!", status=403, kind="text/plain")
        assert await requests.value(server.url("/ok"), auth=auth) == {"got": "Bearer ***", "n": 1}
        _, type, message = await requests.fails(server.url("/no"), auth=auth)
        assert type == "HTTP403"
        assert message.endswith("the status is 403: your token is ***!")
        await requests.value(server.url("/ok"), auth=auth, select="response.body")
        everything = repr([requests.outcomes, requests.evaluator.asked, requests.lines])
        assert "s3cret" not in everything

    async def test_a_basic_pair_is_masked_too(self, make, server, replies) -> None:
        pair = base64.b64encode(b"ada:hunter2!").decode()
        server.answers["/"] = replies(body={"authorization": f"Basic {pair}"})
        requests = make(secrets={"p": "hunter2!"})
        got = await requests.value(server.url(), auth={"type": "basic", "username": "ada", "secret": "p"})
        assert got == {"authorization": "Basic ***"}

    async def test_a_long_secret_that_an_excerpt_would_cut_is_not_shown_by_half(self, make, server, replies) -> None:
        secret = "k3y-" + "abcdefgh" * 400
        server.answers["/"] = replies(body="x" * 250 + secret * 30, status=500, kind="text/plain")
        _, _, message = await make(secrets={"t": secret}).fails(server.url(), auth={"type": "bearer", "secret": "t"})
        assert "k3y" not in message
        assert "abcd" not in message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.com/", "must begin with http:// or https://"),
        ("/relative", "must begin with http:// or https://"),
        ("http:///path", "names no host"),
        ("http://exa mple.com/", "names no host"),
        ("http://user:pass@example.com/", "holds a user name or a password"),
        ("http://example.com:0/", "has the port 0"),
        ("http://example.com:99999/", "has the port 99999"),
        ("http://example.com:x/", "its URL is not one"),
        ("http://a\nb/", "its URL is not one"),
        ("http://example.com/" + "x" * 70_000, "longer than 65,536"),
    ],
)
async def test_what_is_no_url_is_told_without_a_request(requests, url, words) -> None:
    conclusion, type, message = await requests.fails("http://x/", args={"url": url})
    assert (conclusion, type) == ("fail", "RequestError")
    assert words in message
    assert "pass@" not in message


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"url": 5}, "Expected `str`, got `int` - at `$.url`"),
        ({"headers": {"A": "x\r\nB: y"}}, "'A' does not fit into a header"),
        ({"headers": {"A": {"no": 1}}}, "`headers.A` is neither a text nor a number"),
        ({"query": {"q": {"no": 1}}}, "`query.q` is neither a text nor a number"),
        ({"query": 5}, "Expected `object`, got `int` - at `$.query`"),
    ],
)
async def test_values_that_do_not_fit_are_named(requests, args: dict[str, Any], words) -> None:
    conclusion, type, message = await requests.fails("http://127.0.0.1:1/", args=args)
    assert (conclusion, type) == ("fail", "RequestError")
    assert words in message


async def test_a_body_that_is_no_text_is_refused(requests) -> None:
    _, type, message = await requests.fails("http://127.0.0.1:1/", method="POST", body="x", args={"body": {"a": 1}})
    assert (type, "send other values with `json`" in message) == ("RequestError", True)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"headers": {"Host": "x"}}, "the header 'Host' is the engine's to set"),
        ({"headers": {"transfer-encoding": "chunked"}}, "is the engine's to set"),
        ({"auth": {"type": "header", "name": "Content-Length", "secret": "s"}}, "is the engine's to set"),
        ({"headers": {"authorization": "x"}, "auth": {"type": "bearer", "secret": "s"}}, "is set twice"),
        ({"headers": {"A": "x", "a": "y"}}, "is set twice"),
        ({"pointers": {"a": "b"}}, "pattern"),
        ({"pointers": {"a": "/~2"}}, "pattern"),
        ({"expect": [99]}, "expected a status"),
    ],
)
async def test_documents_that_make_no_sense_are_refused(job, spec, words) -> None:
    with pytest.raises(ValueError, match=words):
        job("http://x/", **spec)


@pytest.mark.parametrize("policy", [{"connections": 0}, {"allow": ("a b",)}, {"proxy": "socks5://x"}])
def test_a_policy_that_makes_no_sense_is_refused(policy) -> None:
    with pytest.raises(ValueError, match=r"at least 1|is no rule|the proxy must be"):
        Policy(**policy)
