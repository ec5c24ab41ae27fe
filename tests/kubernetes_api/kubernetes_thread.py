"""The double in a thread of its own, for tests that are not asynchronous: `CliRunner`, `subprocess.run`.

with running() as server:
    path = server.do(lambda api: api.kubeconfig(tmp_path / "kubeconfig"))
    subprocess.run([kubectl, "--kubeconfig", path, ...])
    server.do(lambda api: api.list("pods"))
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from kubernetes_api import KubernetesAPI

Result = TypeVar("Result")


class Running:
    """A double that another thread runs. `do` is the only way to it: its methods belong to its own loop."""

    def __init__(self, api: KubernetesAPI, loop: asyncio.AbstractEventLoop) -> None:
        self._api = api
        self._loop = loop

    def do(self, function: Callable[[KubernetesAPI], Result]) -> Result:
        """What a function of the double says. What it raises is raised here."""

        async def call() -> Result:
            return function(self._api)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(timeout=60)


@contextlib.contextmanager
def running(**how: Any) -> Iterator[Running]:
    """A double, while the context is entered. `how` is what `KubernetesAPI` takes."""
    started: list[Running] = []
    ready, stopped = threading.Event(), asyncio.Event()

    async def live() -> None:
        async with KubernetesAPI(**how) as api:
            started.append(Running(api, asyncio.get_running_loop()))
            ready.set()
            await stopped.wait()

    thread = threading.Thread(target=lambda: asyncio.run(live()), name="kubernetes-api-double")
    thread.start()
    try:
        if not ready.wait(timeout=60):
            raise RuntimeError("the double did not start; the other thread says why")
        yield started[0]
    finally:
        if started:
            started[0].do(lambda _: stopped.set())
        thread.join()
