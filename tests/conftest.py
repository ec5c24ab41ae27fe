"""Shared by all tests: settings of hypothesis, short ways to make workflows, and a check that no test leaves things."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import inspect
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

from dagengine.graph import Graph, compile_document
from dagengine.spec.model import Document

# The double of the Kubernetes API, for whoever imports it: `from kubernetes_api import KubernetesAPI`.
sys.path.append(str(Path(__file__).parent / "kubernetes_api"))

# Derandomized: a run that fails on one machine fails on the next. `HYPOTHESIS_PROFILE=explore` looks for new examples.
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def document() -> Callable[..., Document]:
    """`document(nodes, **spec)`: a workflow of nodes given as dictionaries; those without executor run trivial Lua."""

    def make(nodes: list[dict[str, Any]], *, id: str = "w", version: str = "1.0.0", **spec: Any) -> Document:
        lua = {"type": "lua", "code": "return 1"}
        return Document.model_validate(
            {
                "metadata": {"id": id, "version": version},
                "spec": {"nodes": [{"executor": lua} | node for node in nodes], **spec},
            }
        )

    return make


@pytest.fixture(scope="session")
def graph(document: Callable[..., Document]) -> Callable[..., Graph]:
    """The same, compiled."""

    def make(nodes: list[dict[str, Any]], **spec: Any) -> Graph:
        return compile_document(document(nodes, **spec))

    return make


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    """A real PostgreSQL: a `PostgresServer`, see `postgres.py` beside this file."""
    spec = importlib.util.spec_from_file_location("postgres_for_tests", Path(__file__).parent / "postgres.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    server = module.PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def kubectl() -> Path:
    """The real kubectl."""
    return _cluster_tool("kubectl")


@pytest.fixture(scope="session")
def helm() -> Path:
    """The real helm."""
    return _cluster_tool("helm")


def _cluster_tool(name: str) -> Path:
    program = Path(sys.prefix) / "cluster-tools" / name
    if not program.is_file():
        pytest.fail(f"{program} is missing: run `{sys.executable} scripts/install_cluster_tools.py`", pytrace=False)
    return program


@dataclass(frozen=True, slots=True)
class Belongings:
    """What this process holds besides memory, by name."""

    threads: frozenset[str]
    processes: frozenset[str]
    files: frozenset[str]

    @classmethod
    def now(cls) -> Belongings:
        return cls(frozenset(_threads()), frozenset(_processes()), frozenset(_files()))

    def beyond(self, before: Belongings) -> list[str]:
        """What was not there before, in words."""
        return [
            *(f"thread {name}" for name in sorted(self.threads - before.threads)),
            *(f"process {name}" for name in sorted(self.processes - before.processes)),
            *(f"open file {name}" for name in sorted(self.files - before.files)),
        ]


# Threads that libraries keep for the next time, and end by themselves with the process or with what they serve.
_KEPT_THREADS = ("grpc", "_serve", "AnyIO worker thread", "asyncio_", "OTel")
_GRACE = 3.0
"""Seconds that what was told to end may take to do so."""

_belongings = pytest.StashKey[Belongings]()


def _threads() -> Iterator[str]:
    for thread in threading.enumerate():
        run = getattr(getattr(thread, "_target", None), "__module__", "")
        if not thread.name.startswith(_KEPT_THREADS) and not str(run).startswith("grpc"):
            yield f"{thread.name} ({thread.ident})"


def _processes() -> Iterator[str]:
    """Children, those that nobody has waited for included."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        yield from (str(child.pid) for child in psutil.Process().children())
        return
    for task in tasks.iterdir():
        try:
            yield from (task / "children").read_text().split()
        except OSError:  # a thread that has just ended
            continue


def _files() -> Iterator[str]:
    """Files, pipes and network sockets. What has no name (epoll, eventfd, socket pairs) belongs to loops and gRPC."""
    descriptors, pairs = Path("/proc/self/fd"), Path("/proc/net/unix")
    unnamed = [line.split() for line in pairs.read_text().splitlines()[1:]] if pairs.exists() else []
    local = {f"socket:[{fields[6]}]" for fields in unnamed if len(fields) == 7}
    for descriptor in descriptors.iterdir() if descriptors.is_dir() else ():
        try:
            target = os.readlink(descriptor)
        except OSError:  # the descriptor that lists them
            continue
        if target not in local and not target.startswith(("anon_inode:", "/dev/", "/proc/", "/memfd:")):
            yield target


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was collected stays until the end: looking through it again and again would slow down what is measured."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def belongings(request: pytest.FixtureRequest) -> None:
    """What there is before a test; `pytest_runtest_teardown` compares when everything of the test has been torn down.

    As a fixture of function scope it comes after those of modules and sessions: what they hold is not the test's.
    """
    request.node.stash[_belongings] = Belongings.now()


@pytest.fixture(autouse=True)
def no_task_is_left(belongings: None, request: pytest.FixtureRequest) -> None:
    """An asynchronous test ends with no task but its own."""
    if inspect.iscoroutinefunction(getattr(request.node, "function", None)):
        request.getfixturevalue("_tasks_end")


@pytest.fixture
async def _tasks_end() -> AsyncIterator[None]:
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:  # most were cancelled already, and want a turn of the loop to notice
        _, left = await asyncio.wait(left, timeout=_GRACE)
    if left:
        pytest.fail("the test leaves tasks behind: " + ", ".join(sorted(repr(task) for task in left)))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    result = yield
    before = item.stash.get(_belongings, None)
    if before is None:
        return result
    left = Belongings.now().beyond(before)
    if left:
        gc.collect()
    deadline = time.monotonic() + _GRACE
    while left and time.monotonic() < deadline:
        time.sleep(0.005)
        left = Belongings.now().beyond(before)
    if left:
        pytest.fail(f"the test leaves behind: {', '.join(left)}", pytrace=False)
    return result
