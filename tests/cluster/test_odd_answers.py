"""What answers in the place of the Kubernetes API: proxies, and servers that are half there. It is not believed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagengine.errors import SettingsError
from dagengine.testing import VirtualClock
from orchestrator.errors import ClusterUnavailable
from orchestrator.kubernetes.access import Kubeconfig
from orchestrator.kubernetes.base import PODS
from orchestrator.kubernetes.client import KubernetesCluster
from orchestrator.kubernetes.reflector import Reflector

Server = Callable[[Callable[[str], bytes]], Awaitable[int]]

POD = {"metadata": {"name": "engine-0", "uid": "1", "resourceVersion": "7"}}
LIST = {"kind": "PodList", "metadata": {"resourceVersion": "7"}, "items": [POD]}


def answer(body: Any, status: str = "200 OK") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + content


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """`await server(answers)`: the port where each request, by its head, is answered by that function."""
    servers: list[asyncio.Server] = []

    async def make(answers: Callable[[str], bytes]) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                writer.write(answers((await reader.readuntil(b"\r\n\r\n")).decode()))
                await writer.drain()
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        return int(servers[-1].sockets[0].getsockname()[1])

    yield make
    for each in servers:
        each.close()
        await each.wait_closed()


def kubeconfig(folder: Path, server: str, *, user: dict[str, Any] | None = None, **cluster: Any) -> Kubeconfig:
    path = folder / "config"
    config = {
        "current-context": "odd",
        "contexts": [{"name": "odd", "context": {"cluster": "odd", "user": "odd"}}],
        "clusters": [{"name": "odd", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "odd", "user": user or {"token": "t0ken"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return Kubeconfig(paths=str(path))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"status": "ok"},
        {"items": []},
        {"metadata": {}, "items": []},
        {"metadata": {"resourceVersion": "7"}},
        {"metadata": {"resourceVersion": 7}, "items": []},
        {"metadata": {"resourceVersion": "7"}, "items": {"a": 1}},
        {"metadata": {"resourceVersion": "7"}, "items": [None]},
        {"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "engine-0"}}]},
        {"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"resourceVersion": "7"}}]},
        [],
        b"<html>",
    ],
    ids=str,
)
async def test_what_is_no_list_is_not_taken_for_an_empty_one(server: Server, tmp_path: Path, body: Any) -> None:
    port = await server(lambda _: answer(body))
    client = KubernetesCluster(kubeconfig(tmp_path, f"http://127.0.0.1:{port}"))
    await client.open()
    with pytest.raises(ClusterUnavailable, match="the answer is"):
        await client.list(PODS)
    with pytest.raises(ClusterUnavailable, match="the answer is"):
        await client.get(PODS, "engine-0")
    await client.close()


async def test_a_list_that_was_never_made_is_an_empty_one(server: Server, tmp_path: Path) -> None:
    port = await server(lambda _: answer({**LIST, "items": None}))
    client = KubernetesCluster(kubeconfig(tmp_path, f"http://127.0.0.1:{port}"))
    await client.open()
    assert (await client.list(PODS)).items == []
    await client.close()


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"type": "ADDED"},
        {"type": "ADDED", "object": {}},
        {"type": "ADDED", "object": {"metadata": None}},
        {"type": "DELETED", "object": {"metadata": {"resourceVersion": "8"}}},
        {"type": "BOOKMARK", "object": {"metadata": {}}},
        {"type": ["ADDED"], "object": POD},
        {"type": "ERROR", "object": {"code": "many"}},
        {"type": "ERROR", "object": {"code": 500, "details": "none"}},
        {"type": "ERROR"},
    ],
    ids=str,
)
async def test_what_is_no_event_breaks_the_watch_off(server: Server, tmp_path: Path, event: Any) -> None:
    port = await server(lambda _: answer(json.dumps(event).encode() + b"\n"))
    client = KubernetesCluster(kubeconfig(tmp_path, f"http://127.0.0.1:{port}"))
    await client.open()
    async with aclosing(client.watch(PODS, since="7")) as events:
        with pytest.raises(ClusterUnavailable):
            await anext(events)
    await client.close()


async def test_a_cheerful_proxy_empties_nothing(server: Server, tmp_path: Path) -> None:
    bodies = [LIST, {"status": "ok"}, {"status": "ok"}]
    port = await server(lambda _: answer(bodies.pop(0) if len(bodies) > 1 else bodies[0]))
    client = KubernetesCluster(kubeconfig(tmp_path, f"http://127.0.0.1:{port}"))
    await client.open()
    clock = VirtualClock()
    reflector = Reflector(client, PODS, clock=clock)
    task = asyncio.create_task(reflector.run())
    async with asyncio.timeout(20):
        while not reflector.trouble:
            await clock.asleep()
            assert clock.next_wake is not None
            clock.advance(clock.next_wake - clock.now())
            await asyncio.sleep(0)
    assert set(reflector.objects) == {"engine-0"}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()


async def test_a_watch_that_ends_after_each_word_is_not_begun_again_at_once(server: Server, tmp_path: Path) -> None:
    watches = 0

    def answers(head: str) -> bytes:
        nonlocal watches
        if "watch=true" not in head:
            return answer(LIST)
        watches += 1
        bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}}
        return answer(json.dumps(bookmark).encode() + b"\n")

    port = await server(answers)
    client = KubernetesCluster(kubeconfig(tmp_path, f"http://127.0.0.1:{port}"))
    await client.open()
    clock = VirtualClock()
    task = asyncio.create_task(Reflector(client, PODS, clock=clock).run())
    async with asyncio.timeout(20):
        await clock.asleep()
    assert watches == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()


async def test_a_version_that_expires_after_each_word_is_not_listed_again_at_once(
    server: Server, tmp_path: Path
) -> None:
    lists = 0

    def answers(head: str) -> bytes:
        nonlocal lists
        if "watch=true" not in head:
            lists += 1
            return answer(LIST)
        events: list[Any] = [{"type": "ADDED", "object": POD}, {"type": "ERROR", "object": {"code": 410}}]
        return answer(b"".join(json.dumps(each).encode() + b"\n" for each in events))

    port = await server(answers)
    client = KubernetesCluster(kubeconfig(tmp_path, f"http://127.0.0.1:{port}"))
    await client.open()
    clock = VirtualClock()
    task = asyncio.create_task(Reflector(client, PODS, clock=clock).run())
    async with asyncio.timeout(20):
        await clock.asleep()
    assert lists <= 2, "the first time, at once: that is what the API asks for"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()


async def test_the_password_of_a_proxy_is_used_and_never_told(server: Server, tmp_path: Path) -> None:
    heads: list[str] = []

    def answers(head: str) -> bytes:
        heads.append(head)
        return b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"

    port = await server(answers)
    proxy = f"http://ada:s3%3Dcret@127.0.0.1:{port}"
    client = KubernetesCluster(kubeconfig(tmp_path, "https://127.0.0.1:6443", **{"proxy-url": proxy}))
    await client.open()
    with pytest.raises(ClusterUnavailable, match="407") as caught:
        await client.list(PODS)
    assert "cret" not in f"{caught.value} {caught.value.__cause__}"
    assert "CONNECT 127.0.0.1:6443" in heads[0]
    assert "Proxy-Authorization: Basic YWRhOnMzPWNyZXQ=" in heads[0]
    assert "t0ken" not in heads[0]
    await client.close()


@pytest.mark.parametrize("proxy", ["htt p://ada:s3cret@proxy", "socks5://ada:s3cret@proxy", "ada:s3cret@proxy:3128"])
async def test_a_proxy_that_cannot_be_used_is_told_without_quoting_it(tmp_path: Path, proxy: str) -> None:
    with pytest.raises(SettingsError, match="its proxy-url") as caught:
        await kubeconfig(tmp_path, "https://127.0.0.1:6443", **{"proxy-url": proxy}).connect()
    assert "s3cret" not in str(caught.value)


async def test_a_token_file_may_end_with_a_line_break(server: Server, tmp_path: Path) -> None:
    heads: list[str] = []

    def answers(head: str) -> bytes:
        heads.append(head)
        return answer(LIST)

    port = await server(answers)
    (tmp_path / "token").write_text("t0ken\n")
    user = {"tokenFile": str(tmp_path / "token")}
    client = KubernetesCluster(kubeconfig(tmp_path, f"http://127.0.0.1:{port}", user=user))
    await client.open()
    await client.list(PODS)
    assert "authorization: bearer t0ken\r\n" in heads[0].lower()
    await client.close()


async def test_a_token_that_is_none_is_told_without_quoting_it(server: Server, tmp_path: Path) -> None:
    port = await server(lambda _: answer(LIST))
    access = kubeconfig(tmp_path, f"http://127.0.0.1:{port}", user={"token": "first\nsecond"})
    client = KubernetesCluster(access)
    await client.open()
    with pytest.raises(ClusterUnavailable, match="credentials") as caught:
        await client.list(PODS)
    assert "second" not in str(caught.value)
    await client.close()
