"""What a response comes to: statuses, bodies, pointers, `select`, limits, and servers that do not mean well."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import Any

import msgspec
import pytest

from dagengine.events.facts import ErrorInfo
from dagengine.executors.base import MAX_RESULT, Evaluation
from dagengine.executors.http import Policy
from dagengine.executors.http.pointer import PointerError, find
from dagengine.executors.lua.evaluator import LuaEvaluator
from dagengine.testing import START, VirtualClock

HOUR = 3_600_000_000


class TestValues:
    @pytest.mark.parametrize(
        ("body", "kind", "result"),
        [
            (b'{"a": [1 , 2.50],\n "b": null}', "application/json", b'{"a":[1,2.50],"b":null}'),
            (b'\xef\xbb\xbf{"n":123456789012345678901234567890}', "application/problem+json; charset=utf-8", None),
            (b'"text"', "TEXT/JSON", b'"text"'),
            ("süß\n".encode(), "text/plain", '"süß\\n"'.encode()),
            (b'{"a": 1}', "text/plain", b'"{\\"a\\": 1}"'),
            (b"plain", "application/octet-stream", b'"plain"'),
            (b"", "application/json", b"null"),
        ],
    )
    async def test_json_is_a_value_and_other_text_a_text(self, requests, server, replies, body, kind, result) -> None:
        server.answers["/"] = replies(body=body, kind=kind)
        outcome = await requests.send(server.url())
        assert outcome.result == (result or b'{"n":123456789012345678901234567890}')
        assert outcome.elapsed > 0

    @pytest.mark.parametrize("body", [b"{", b"[1,]", b"NaN", b'{"a":1} {}', b'"\xff"', b'"\\ud800"', b"[" * 100_000])
    async def test_json_that_is_none_is_a_failure(self, requests, server, replies, body) -> None:
        server.answers["/"] = replies(body=body)
        conclusion, type, message = await requests.fails(server.url())
        assert (conclusion, type) == ("fail", "ResponseError")
        assert "the body is not JSON: " in message

    async def test_what_is_neither_json_nor_text_is_a_failure(self, requests, server, replies) -> None:
        server.answers["/"] = replies(body=b"\x89PNG\xff\xfe", kind="image/png")
        _, type, message = await requests.fails(server.url("/?token=x"))
        assert type == "ResponseError"
        assert message == f"GET {server.url()}: the body (image/png) is neither JSON nor UTF-8 text"

    async def test_a_head_has_no_body(self, requests, server, replies) -> None:
        server.answers["/"] = replies(body=b"", X_A="1").replace(b"Content-Length: 0", b"Content-Length: 500")
        assert await requests.value(server.url(), method="HEAD") is None

    @pytest.mark.parametrize(
        ("name", "pack"),
        [
            ("gzip", gzip.compress),
            ("x-gzip", lambda data: gzip.compress(data[:3], mtime=0) + gzip.compress(data[3:], mtime=0) + b"\0\0"),
            ("deflate", zlib.compress),
            ("deflate", lambda data: zlib.compress(data, wbits=-15)),
            ("identity", lambda data: data),
        ],
    )
    async def test_compressed_bodies_are_unpacked(self, requests, server, replies, name, pack) -> None:
        server.answers["/"] = replies(body=pack(b'{"a": "' + b"x" * 100_000 + b'"}'), Content_Encoding=name)
        assert await requests.value(server.url()) == {"a": "x" * 100_000}

    async def test_chunks_are_put_together(self, requests, server) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        server.answers["/"] = head + b"3\r\n[1,\r\n3\r\n 2]\r\n0\r\n\r\n"
        assert await requests.value(server.url()) == [1, 2]


class TestStatuses:
    @pytest.mark.parametrize(
        ("status", "expect"), [(200, None), (204, None), (404, [404]), (404, ["2xx", "4xx"]), (302, ["3xx"])]
    )
    async def test_what_is_expected_is_a_success(self, requests, server, replies, status, expect) -> None:
        server.answers["/"] = replies(body=b"" if status == 204 else b"1", status=status)
        spec = {} if expect is None else {"expect": expect}
        assert await requests.value(server.url(), **spec) in (1, None)

    async def test_another_status_is_a_failure_with_a_type_of_its_own(self, requests, server, replies) -> None:
        body = '{"error":\n "out of stock"}' + " " * 400 + "x" * 400
        server.answers["/orders"] = replies(body=body, status=409)
        outcome = await requests.send(server.url("/orders?token=s3cret"), method="POST", expect=[201])
        assert outcome.conclusion == "fail"
        assert outcome.error.type == "HTTP409"
        begins = f'POST {server.url("/orders")}: the status is 409: {{"error": "out of stock"}} xxx'
        assert outcome.error.message.startswith(begins)
        assert len(outcome.error.message) < 450
        assert msgspec.json.decode(outcome.error.details) == {"status": 409}
        assert "s3cret" not in repr(outcome) + repr(requests.lines)

    @pytest.mark.parametrize("body", [b"", b"\x00\x01\xff\xfe", b"\xff" * 10])
    async def test_a_body_that_is_no_text_is_not_shown(self, requests, server, replies, body) -> None:
        server.answers["/"] = replies(body=body, status=500, kind="image/png")
        assert await requests.fails(server.url()) == ("fail", "HTTP500", f"GET {server.url()}: the status is 500")

    async def test_a_text_that_was_cut_within_a_letter_is_shown(self, requests, server, replies) -> None:
        server.answers["/"] = replies(body="ü" * 40_000, status=500, kind="text/plain")
        assert (await requests.fails(server.url()))[2].endswith("ü…")

    async def test_a_damaged_body_does_not_hide_the_status(self, requests, server, replies) -> None:
        server.answers["/"] = replies(body=b"no gzip", status=503, Content_Encoding="gzip")
        assert (await requests.fails(server.url()))[1] == "HTTP503"

    async def test_a_body_that_never_comes_does_not_hide_the_status(self, requests, server) -> None:
        server.answers["/"] = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 10\r\n\r\nabc"
        _, type, message = await requests.fails(server.url())
        assert (type, message.endswith("502: abc")) == ("HTTP502", True)


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("status", "text", "wait"),
        [
            (503, "7", 7_000_000),
            (429, "Thu, 01 Jan 2026 00:00:30 GMT", 30_000_000),
            (503, "Thu, 01 Jan 2026 00:00:30", 30_000_000),
            (503, "Wed, 31 Dec 2025 23:00:00 GMT", 0),
            (503, "86400", HOUR),
            (503, "Fri, 01 Jan 2999 00:00:00 GMT", HOUR),
            (503, "99999999999999", 0),
            (503, "-5", 0),
            (503, "soon", 0),
            (500, "7", 0),
        ],
    )
    async def test_what_the_server_asks_for_is_told(self, make, server, replies, status, text, wait) -> None:
        server.answers["/"] = replies(status=status, Retry_After=text)
        outcome = await make(clock=VirtualClock(START)).send(server.url())
        assert outcome.error.type == f"HTTP{status}"
        assert outcome.retry_after == wait


class TestPointers:
    @pytest.mark.parametrize(
        ("pointer", "found"),
        [
            ("", None),
            ("/", b"0"),
            ("/a/b/0", b"10"),
            ("/a/b/1/c~0d", b"1"),
            ("/a/b/1/e~1f", b"2"),
            ("/a/b/1/", b"3"),
            ("/big", b"12345678901234567890123"),
        ],
    )
    def test_a_pointer_finds_what_it_leads_to(self, pointer: str, found: bytes | None) -> None:
        body = b'{"a":{"b":[10,{"c~d":1,"e/f":2,"":3}]},"":0,"big":12345678901234567890123}'
        assert find(body, pointer) == (body if found is None else found)

    @pytest.mark.parametrize(
        ("pointer", "words"),
        [
            ("/x", "the body has no member 'x'"),
            ("/a/b/2", "/a/b has 2 elements, and no '2'"),
            ("/a/b/-", "/a/b has 2 elements, and no '-'"),
            ("/a/b/01", "/a/b has 2 elements, and no '01'"),
            ("/a/b/0/x", "/a/b/0 is neither an object nor a list"),
        ],
    )
    def test_one_that_leads_nowhere_tells_how_far_it_led(self, pointer: str, words: str) -> None:
        body = msgspec.json.encode({"a": {"b": [10, {}]}})
        with pytest.raises(PointerError) as caught:
            find(body, pointer)
        assert str(caught.value) == f"'{pointer}' leads nowhere: {words}"

    async def test_the_result_is_an_object_of_what_was_found(self, requests, server, replies) -> None:
        server.answers["/"] = replies(body=b'{"id": 7, "rows": [{"n": 1.50}]}', kind="text/plain")
        outcome = await requests.send(server.url(), pointers={"id": "/id", "first": "/rows/0/n", "all": ""})
        assert outcome.result == b'{"id":7,"first":1.50,"all":{"id":7,"rows":[{"n":1.50}]}}'

    async def test_a_pointer_without_target_is_a_failure(self, requests, server, replies) -> None:
        server.answers["/"] = replies(body={"id": 7})
        conclusion, type, message = await requests.fails(server.url(), pointers={"name": "/name"})
        assert (conclusion, type) == ("fail", "PointerError")
        assert message.endswith("`pointers.name`: '/name' leads nowhere: the body has no member 'name'")


class TestSelect:
    async def test_the_response_is_given_to_the_expression(self, requests, server, replies) -> None:
        server.answers["/"] = replies(body={"a": 1}, status=201, X_A="1", x_a="2")
        assert await requests.value(server.url(), select="response.body.a") == "selected"
        question = requests.evaluator.asked[0]
        given = msgspec.json.decode(question.given["response"])
        assert (question.code, given["status"], given["body"]) == ("response.body.a", 201, {"a": 1})
        assert given["headers"]["x-a"] == "1, 2"
        assert given["headers"]["content-type"] == "application/json"

    async def test_an_expression_that_fails_is_the_node_s_failure(self, requests, server, replies) -> None:
        server.answers["/"] = replies(body={"a": 1})
        requests.evaluator.answer = Evaluation(error=ErrorInfo(type="LuaError", message="nil value", line=1))
        outcome = await requests.send(server.url(), select="response.b.c")
        assert (outcome.conclusion, outcome.error.type, outcome.error.line) == ("fail", "LuaError", 1)

    @pytest.mark.parametrize(
        ("code", "result"),
        [
            ("response.body.rows[2].n + response.status", 203),
            ("#response.body.rows", 2),
            ("response.headers['x-total']", "17"),
            ("nil", None),
        ],
    )
    async def test_lua_sees_the_response(self, make, server, replies, code, result) -> None:
        server.answers["/"] = replies(body={"rows": [{"n": 1}, {"n": 2}]}, status=201, X_Total="17")
        evaluator = LuaEvaluator()
        assert await make(evaluator=evaluator).value(server.url(), select=code) == result
        await evaluator.close()

    async def test_lua_that_fails_says_where(self, make, server, replies) -> None:
        server.answers["/"] = replies(body="text", kind="text/plain")
        evaluator = LuaEvaluator()
        conclusion, _, message = await make(evaluator=evaluator).fails(server.url(), select="response.body.a.b")
        assert conclusion == "fail"
        assert "response" in message or "nil" in message
        await evaluator.close()

    async def test_it_is_not_asked_about_a_status_that_is_not_expected(self, requests, server, replies) -> None:
        server.answers["/"] = replies(status=500)
        assert (await requests.fails(server.url(), select="1"))[1] == "HTTP500"
        assert requests.evaluator.asked == []


class TestLimits:
    @pytest.mark.parametrize("announced", [True, False])
    async def test_a_body_beyond_the_limit_is_not_read(self, requests, server, replies, announced) -> None:
        sent = 0

        async def flood(request: Any, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            size = f"Content-Length: {1 << 30}" if announced else "Connection: close"
            writer.write(f"HTTP/1.1 200 OK\r\n{size}\r\n\r\n".encode())
            for _ in range(1 << 14):
                writer.write(bytes(1 << 16))
                sent += 1 << 16
                await writer.drain()

        server.answers["/"] = flood
        conclusion, type, message = await requests.fails(server.url(), output=100_000)
        assert (conclusion, type) == ("fail", "ResponseTooLarge")
        assert "larger than 100,000 bytes" in message
        assert sent < 32 << 20  # what fits into the buffers between the two

    async def test_the_limit_is_exact(self, requests, server, replies) -> None:
        server.answers["/"] = replies(body="x" * 1000, kind="text/plain")
        assert await requests.value(server.url(), output=1000) == "x" * 1000
        assert (await requests.fails(server.url(), output=999, node="b"))[1] == "ResponseTooLarge"

    async def test_the_engine_s_limit_is_the_most(self, make, server, replies) -> None:
        server.answers["/"] = replies(body="x" * 1000, kind="text/plain")
        requests = make(Policy(allow=("127.0.0.1",), max_response=500))
        assert (await requests.fails(server.url(), output=10_000))[1] == "ResponseTooLarge"

    async def test_a_larger_response_may_be_read_than_a_result_may_be(self, requests, server, replies) -> None:
        server.answers["/"] = replies(body={"a": "x" * MAX_RESULT, "b": 1})
        assert (await requests.fails(server.url()))[1] == "ResponseTooLarge"
        assert await requests.value(server.url(), output="8MiB", pointers={"b": "/b"}, node="b") == {"b": 1}
        assert (await requests.fails(server.url(), output="8MiB", node="c"))[1] == "ResultError"

    @pytest.mark.parametrize("members", [1, 40])
    async def test_a_bomb_is_not_unpacked(self, requests, server, replies, members) -> None:
        bomb = gzip.compress(bytes((64 << 20) // members)) * members
        server.answers["/"] = replies(body=bomb, Content_Encoding="gzip")
        assert (await requests.fails(server.url(), output="1MiB"))[1] == "ResponseTooLarge"

    async def test_a_stream_that_unpacks_to_nothing_ends(self, requests, server, replies) -> None:
        server.answers["/"] = replies(body=gzip.compress(b"", mtime=0) * 20_000, Content_Encoding="gzip")
        assert (await requests.fails(server.url(), output="100kB"))[1] == "ResponseTooLarge"


class TestNastyServers:
    @pytest.mark.parametrize(
        ("sent", "type"),
        [
            (b"", "ProtocolError"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "ProtocolError"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "ProtocolError"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nabc", "ProtocolError"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc", "ProtocolError"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "ProtocolError"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "ProtocolError"),
            (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000, "ProtocolError"),
            (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100_000, "ProtocolError"),
        ],
    )
    async def test_a_response_that_is_none_is_an_error(self, requests, server, sent, type) -> None:
        async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
            writer.write(sent)
            await writer.drain()
            writer.close()

        server.answers["/"] = answer
        conclusion, found, message = await requests.fails(server.url())
        assert (conclusion, found) in (("error", type), ("error", "ConnectionLost"))
        assert message.startswith(f"GET {server.url()}: ")

    async def test_a_connection_that_is_reset_is_an_error(self, requests, server) -> None:
        async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
            await writer.drain()
            writer.transport.abort()

        server.answers["/"] = answer
        conclusion, type, _ = await requests.fails(server.url())
        assert (conclusion, type in ("ConnectionLost", "ProtocolError")) == ("error", True)

    async def test_more_than_was_announced_is_not_the_next_response(self, requests, server, replies) -> None:
        server.answers["/"] = replies(body=b"1") + replies(body=b'"smuggled"')
        server.answers["/next"] = replies(body=b"2")
        assert await requests.value(server.url()) == 1
        assert await requests.value(server.url("/next"), node="b") == 2

    @pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\nabc"])
    async def test_a_server_that_falls_silent_meets_the_timeout(self, requests, server, part) -> None:
        silent = asyncio.Event()

        async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
            writer.write(part)
            await silent.wait()

        server.answers["/"] = answer
        conclusion, type, message = await requests.fails(server.url(), timeout=100_000)
        assert (conclusion, type) == ("error", "Timeout")
        assert message == "the attempt took longer than its timeout of 0.1 s"

    @pytest.mark.parametrize("drip", [b"x", b"1\r\nx\r\n"])
    async def test_a_slow_drip_meets_the_timeout(self, requests, server, drip) -> None:
        async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
            framing = b"Transfer-Encoding: chunked" if len(drip) > 1 else b"Content-Length: 1000000"
            writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n")
            while True:
                writer.write(drip)
                await writer.drain()
                await asyncio.sleep(0.005)

        server.answers["/"] = answer
        assert (await requests.fails(server.url(), timeout=200_000))[:2] == ("error", "Timeout")

    async def test_endless_preliminary_responses_meet_the_timeout(self, requests, server) -> None:
        async def answer(request: Any, writer: asyncio.StreamWriter) -> None:
            while True:
                writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.001)

        server.answers["/"] = answer
        assert (await requests.fails(server.url(), timeout=200_000))[:2] == ("error", "Timeout")

    @pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "x" * 200])
    async def test_an_encoding_that_nobody_asked_for_is_a_failure(self, requests, server, replies, encoding) -> None:
        server.answers["/"] = replies(body=b"1", Content_Encoding=encoding)
        assert (await requests.fails(server.url()))[:2] == ("fail", "ResponseError")

    @pytest.mark.parametrize(
        "body", [b"no gzip at all", gzip.compress(b"[1]", mtime=0)[:-6], gzip.compress(b"[1]", mtime=0) + b"junk"]
    )
    async def test_damaged_compression_is_an_error(self, requests, server, replies, body) -> None:
        server.answers["/"] = replies(body=body, Content_Encoding="gzip")
        assert (await requests.fails(server.url()))[:2] == ("error", "ProtocolError")
