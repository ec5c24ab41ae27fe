"""The port's promises, TLS, connections that do not come about, limits, cancelling, log lines, the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dagengine.executors.http import Policy

LOCAL = ("127.0.0.1", "localhost")


class Gate:
    """An answer that is held back until it is let through."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.open = asyncio.Event()

    async def __call__(self, request: Any, writer: asyncio.StreamWriter) -> None:
        await self.open.wait()
        writer.write(self.answer)
        await writer.drain()


@pytest.fixture
async def plain_port() -> AsyncIterator[int]:
    """A port where somebody listens who does not speak TLS."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()


class TestTLS:
    async def test_a_certificate_of_an_authority_of_the_engine_is_accepted(
        self, make, secure, replies, certificate
    ) -> None:
        secure.answers["/"] = replies(body=1)
        requests = make(Policy(allow=LOCAL, ca=certificate))
        assert await requests.value(secure.url(host="localhost")) == 1
        assert await requests.value(secure.url(), node="b") == 1

    async def test_an_unknown_certificate_is_not(self, requests, secure) -> None:
        conclusion, type, message = await requests.fails(secure.url())
        assert (conclusion, type) == ("error", "TLSError")
        assert "the server's certificate was not accepted: self" in message
        assert secure.received == []

    async def test_one_for_another_name_is_not(self, make, secure, certificate) -> None:
        async def resolve(host: str, port: int) -> list[str]:
            return ["127.0.0.1"]

        requests = make(Policy(allow=("127.0.0.1",), ca=certificate), resolve=resolve)
        _, type, message = await requests.fails(secure.url(host="other.example.com"))
        assert type == "TLSError"
        assert "other.example.com" in message

    async def test_not_checking_needs_the_engine_s_permission(self, make, secure, replies) -> None:
        secure.answers["/"] = replies(body=1)
        conclusion, type, message = await make().fails(secure.url(), verify=False)
        assert (conclusion, type) == ("fail", "Forbidden")
        assert "ENGINE_HTTP_INSECURE" in message
        requests = make(Policy(allow=LOCAL, insecure=True))
        assert await requests.value(secure.url(), verify=False) == 1
        # A connection that was not checked is not used for nodes that want it checked.
        assert (await requests.fails(secure.url(), node="b"))[1] == "TLSError"

    async def test_the_other_side_may_not_speak_it(self, requests, plain_port) -> None:
        assert (await requests.fails(f"https://127.0.0.1:{plain_port}/"))[:2] == ("error", "TLSError")

    async def test_authorities_that_cannot_be_read_are_told(self, make, secure, tmp_path: Path) -> None:
        empty = tmp_path / "empty.pem"
        empty.touch()
        for path, words in ((empty, "no certificate in PEM form"), (tmp_path / "none.pem", "No such file")):
            conclusion, type, message = await make(Policy(allow=LOCAL, ca=path)).fails(secure.url())
            assert (conclusion, type) == ("error", "TLSError")
            assert "ENGINE_HTTP_CA" in message
            assert words in message

    async def test_through_a_proxy_the_certificate_is_the_server_s(self, make, secure, replies, certificate) -> None:
        secure.answers["/"] = replies(body=1)
        async with tunnel() as proxy:
            requests = make(Policy(allow=LOCAL, ca=certificate, proxy=f"http://127.0.0.1:{proxy}"))
            assert await requests.value(secure.url(host="localhost")) == 1
            await requests.executor.close()


@contextlib.asynccontextmanager
async def tunnel() -> AsyncIterator[int]:
    """A proxy that does CONNECT."""
    tasks: set[asyncio.Task[Any]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        tasks.update(map(asyncio.ensure_future, (pump(reader, there[1]), pump(there[0], writer))))

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    await asyncio.gather(*tasks, return_exceptions=True)


class TestNoConnection:
    async def test_nobody_listens(self, requests) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, but not listening
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
            conclusion, type, message = await requests.fails(url)
        assert (conclusion, type) == ("error", "ConnectError")
        assert message.startswith(f"GET {url}: no connection: ")

    @pytest.mark.parametrize(
        "failure", [socket.gaierror(-2, "Name or service not known"), OSError(), UnicodeError("label too long")]
    )
    async def test_the_name_is_not_known(self, make, failure) -> None:
        async def resolve(host: str, port: int) -> list[str]:
            raise failure

        conclusion, type, message = await make(resolve=resolve).fails("http://nowhere.example.com/")
        assert (conclusion, type) == ("error", "DNSError")
        assert "nowhere.example.com" in message

    async def test_the_name_has_no_address(self, make) -> None:
        async def resolve(host: str, port: int) -> list[str]:
            return []

        assert (await make(resolve=resolve).fails("http://nowhere.example.com/"))[:2] == ("error", "DNSError")

    async def test_the_system_s_resolver_is_asked(self, requests) -> None:
        assert (await requests.fails("http://name.invalid/"))[:2] == ("error", "DNSError")
        assert (await requests.fails(f"http://{'x' * 64}.example.com/", node="b"))[:2] == ("error", "DNSError")


class TestManyAtATime:
    async def test_no_more_run_than_the_engine_says(self, make, server, job, replies) -> None:
        gate = Gate(replies(body=1))
        server.answers["/"] = gate
        requests = make(Policy(allow=LOCAL, connections=3))
        requests.submit(*(job(server.url(), index=index) for index in range(20)))
        assert requests.outcomes == []
        await server.busy(3)
        gate.open.set()
        outcomes = await requests.wait(20)
        assert all(outcome.conclusion == "success" for outcome in outcomes)
        assert server.most_open == server.connections == 3

    async def test_time_counts_from_when_a_request_begins(self, make, server, job, replies) -> None:
        async def slow(request: Any, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.1)
            writer.write(replies(body=1))

        server.answers["/"] = slow
        requests = make(Policy(allow=LOCAL, connections=1))
        await requests.value(server.url())  # the client is imported once and for all
        requests.submit(*(job(server.url(), index=index, timeout=1_000_000) for index in range(12)))
        outcomes = await requests.wait(13)
        assert [outcome.conclusion for outcome in outcomes] == ["success"] * 13
        assert all(outcome.elapsed < 1_000_000 for outcome in outcomes[1:])

    async def test_connections_are_used_again(self, requests, server, replies) -> None:
        server.answers["/"] = replies(body=1)
        for node in "abcde":
            await requests.value(server.url(), node=node)
        assert server.connections == 1

    async def test_a_connection_that_was_closed_meanwhile_is_not(self, requests, server, replies) -> None:
        async def once(request: Any, writer: asyncio.StreamWriter) -> None:
            writer.write(replies(body=1))
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server.answers["/"] = once
        for node in "abc":
            assert await requests.value(server.url(), node=node) == 1
        assert server.connections == 3

    async def test_nothing_is_kept_from_one_request_to_the_next(self, requests, server, replies) -> None:
        server.answers["/"] = replies(body=1, Set_Cookie="id=1; Path=/")
        await requests.value(server.url())
        await requests.value(server.url(), node="b")
        assert all("cookie" not in one.headers for one in server.received)


class TestCancelling:
    async def test_a_request_under_way_is_aborted(self, requests, server) -> None:
        gate = server.answers["/"] = Gate(b"")
        job = requests.begin(server.url())
        await server.busy()
        requests.cancel(job)
        assert requests.outcomes == []
        (outcome,) = await requests.wait()
        assert (outcome.conclusion, outcome.error.type) == ("error", "Cancelled")
        gate.open.set()

    async def test_an_answer_within_the_grace_counts(self, requests, server, replies) -> None:
        gate = server.answers["/"] = Gate(replies(body=1))
        job = requests.begin(server.url(), method="POST")
        await server.busy()
        requests.cancel(job, grace=20_000_000)
        gate.open.set()
        (outcome,) = await requests.wait()
        assert outcome.conclusion == "success"

    async def test_a_shorter_grace_takes_the_place_of_a_longer_one(self, requests, server) -> None:
        gate = server.answers["/"] = Gate(b"")
        job = requests.begin(server.url())
        await server.busy()
        requests.cancel(job, grace=600_000_000)
        requests.cancel(job, grace=1_000)
        (outcome,) = await requests.wait()
        assert outcome.error.type == "Cancelled"
        gate.open.set()

    async def test_one_that_waits_is_dropped_at_once_and_never_sent(self, make, server, job, replies) -> None:
        gate = server.answers["/"] = Gate(replies(body=1))
        requests = make(Policy(allow=LOCAL, connections=1))
        first, second = job(server.url(), node="a"), job(server.url(), node="b")
        requests.submit(first, second)
        await server.busy()
        requests.cancel(second, grace=600_000_000)
        await requests.wait()
        assert requests.outcomes[0][0] is second
        gate.open.set()
        await requests.wait(2)
        assert len(server.received) == 1

    async def test_one_that_nobody_knows_is_no_mistake(self, requests, job) -> None:
        requests.cancel(job("http://x/"))
        assert requests.outcomes == []

    async def test_every_job_is_done_once(self, requests, server, job, replies) -> None:
        server.answers["/"] = replies(body=1)
        jobs = [job(server.url(), index=index) for index in range(200)]
        requests.submit(*jobs)
        for one in jobs[::2]:
            requests.cancel(one)
        await requests.wait(200)
        assert sorted(done.index for done, _ in requests.outcomes) == list(range(200))

    async def test_an_expression_that_is_never_answered_meets_the_timeout(self, make, server, replies) -> None:
        server.answers["/"] = replies(body=1)
        requests = make()
        requests.evaluator.ask = lambda question, answer: None
        assert (await requests.fails(server.url(), select="1", timeout=300_000))[:2] == ("error", "Timeout")

    async def test_closing_ends_everything(self, make, server, job) -> None:
        gate = server.answers["/"] = Gate(b"")
        requests = make(Policy(allow=LOCAL, connections=1))
        requests.submit(job(server.url(), node="a"), job(server.url(), node="b"))
        await server.busy()
        await requests.executor.close()
        assert requests.outcomes == []
        assert len(server.received) == 1
        gate.open.set()


async def test_the_log_tells_of_each_response(requests, server, replies) -> None:
    server.answers["/a"] = replies(status=302, Location="/b?token=s3cret")
    server.answers["/b"] = replies(body=1)
    await requests.value(server.url("/a"), redirects=1, node="load", index=2)
    said = [(line.node, line.index, line.attempt, line.line, line.text) for line in requests.lines]
    assert said == [
        ("load", 2, 1, 1, f"GET {server.url('/a')} 302"),
        ("load", 2, 1, 2, f"GET {server.url('/b')} 200"),
    ]


def test_the_client_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, dagengine.executors.http as h; sys.exit('httpcore' in sys.modules or 'httpx' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_old_protocols_are_refused() -> None:
    from dagengine.executors.http import network

    context = network._context(verify=True, ca=None)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
