"""What 1,000 engines cost an orchestrator: the ring, placement, discovery, and sessions. Told in `docs/scale.md`.

All of it is the product's own: `Ring`, `Fleet`, `choose`, `PodDiscovery` over its port, and sessions over gRPC.

- ring: made of all engines, and of the one before when an engine comes or goes; which keys move then
- placement: executions over engines, each ending when so many others have begun; the fullest engine over the mean
- discovery: pods as an API server sends them (about 9 KB each), listed, and changed one by one
- sessions: an orchestrator over engines in another process, that do nothing but report; fewer than 1,000
- facts: what one replica, and two, commit to one PostgreSQL on the same cores

Called by `benchmarks.__main__`, or alone.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import itertools
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
import structlog
import uvloop

from benchmarks import figure, postgres
from benchmarks.figure import Figure
from benchmarks.sessions import FloodEngine
from dagengine.clock import SystemClock
from dagengine.events.facts import NodeSucceeded, encode
from dagengine.server.host import Host
from dagengine.server.service import EngineServer
from orchestrator.app import Orchestrator
from orchestrator.discovery.pods import PodDiscovery
from orchestrator.dispatcher.placement import Candidate, Fleet, choose
from orchestrator.dispatcher.ring import Ring
from orchestrator.kubernetes import answers
from orchestrator.kubernetes.base import Event, Object, Page
from orchestrator.store import opening
from orchestrator.store.base import Batch, NewExecution, Store, VersionRecord

ENGINES: Final = 1_000
EXECUTIONS: Final = 1_000_000
SESSIONS: Final = 200
"""As many as two cores bear that run both sides."""
CAPACITY: Final = 100
KEYS: Final = 10_000
WRITERS: Final = 10
VERSION: Final = VersionRecord(
    workflow="w",
    version="1.0.0",
    digest="sha256:w",
    document=b"{}",
    labels={},
    name="",
    description="",
    registered_at=1,
)
VERSIONS: Final = 200
"""Workflow versions, of which a few are started most of the time."""


def figures(*, quick: bool) -> Iterator[Figure]:
    """Everything. `quick` takes a tenth of the engines, and a hundredth of the executions."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    engines = ENGINES // 10 if quick else ENGINES
    yield from _ring(engines, repetitions=3 if quick else 9)
    yield from _placement(engines, EXECUTIONS // 100 if quick else EXECUTIONS)
    yield from uvloop.run(_discovery(engines, changes=20 if quick else 200))
    yield from _sessions(20 if quick else SESSIONS, seconds=2.0 if quick else 20.0)
    yield from _facts(seconds=0.5 if quick else 5.0, repetitions=1 if quick else 3)


def names(engines: int) -> list[str]:
    """Engines as a Deployment names their pods."""
    chance = random.Random(7)
    return [f"workflow-engine-7d9f8c6b5-{number:04}{chance.randrange(16**3):03x}" for number in range(engines)]


# --- the ring ---


def _ring(engines: int, *, repetitions: int) -> Iterator[Figure]:
    there = names(engines)
    built, ring = _milliseconds(lambda: Ring(there), 3)
    joins, leaves = [], []
    for number in range(repetitions):
        at = number * engines // repetitions
        joins += _milliseconds(lambda number=number: ring.with_engines([*there, f"new-{number}"]))[0]
        leaves += _milliseconds(lambda at=at: ring.with_engines(there[:at] + there[at + 1 :]))[0]
    name = f"ring of {engines:,} engines"
    yield figure.of(built, benchmark=name, measure="made of nothing", unit="ms")
    yield figure.of(joins, benchmark=name, measure="one comes", unit="ms")
    yield figure.of(leaves, benchmark=name, measure="one goes", unit="ms")
    keys = [f"workflow-{number}@1.{number % 7}.0" for number in range(KEYS)]
    began = time.perf_counter()
    homes = [next(ring.walk(key)) for key in keys]
    yield figure.of([(time.perf_counter() - began) / KEYS * 1e6], benchmark=name, measure="home of a key", unit="µs")
    share = collections.Counter(homes)
    for measure, others, fair in (
        ("keys that move: one comes", [*there, "new"], 1 / (engines + 1)),
        ("keys that move: one goes", there[1:], 1 / engines),
        ("keys that move: a tenth goes", there[engines // 10 :], 0.1),
    ):
        after = ring.with_engines(others)
        moved = sum(next(after.walk(key)) != home for key, home in zip(keys, homes, strict=True)) / KEYS
        yield figure.of([moved * 100], benchmark=name, measure=f"{measure} (fair: {fair:.2%})", unit="%")
    spread = _shares(ring)
    yield figure.of(
        [max(spread) * engines], benchmark=name, measure="largest share of the ring over mean", unit="times"
    )
    yield figure.of(
        [max(share.values()) * engines / KEYS], benchmark=name, measure=f"most of {KEYS:,} keys over mean", unit="times"
    )


def _shares(ring: Ring) -> list[float]:
    """What each engine has of the ring."""
    ends = list(ring._positions)
    shares: collections.Counter[str] = collections.Counter()
    for before, end, owner in zip([ends[-1] - 2**64, *ends], ends, ring._owners, strict=False):
        shares[owner] += (end - before) / 2**64
    return list(shares.values())


def _milliseconds(act: Callable[[], Any], times: int = 1) -> tuple[list[float], Any]:
    took, made = [], None
    for _ in range(times):
        gc.collect()
        began = time.perf_counter()
        made = act()
        took.append((time.perf_counter() - began) * 1e3)
    return took, made


# --- placement ---


def _placement(engines: int, executions: int) -> Iterator[Figure]:
    fleet = Fleet(
        Candidate(engine=name, capacity=CAPACITY, state="ready", executors=frozenset({"lua"}))
        for name in names(engines)
    )
    name = f"{executions:,} executions over {engines:,} engines"
    for full in (0.5, 0.95):
        running = dict.fromkeys(fleet.candidates, 0)
        under_way: collections.deque[str] = collections.deque()
        most, chance = 0.0, random.Random(11)
        at_once, elsewhere = int(engines * CAPACITY * full), 0
        versions = [f"workflow-{number}@1.0.0" for number in range(VERSIONS)]
        chosen = chance.choices(versions, weights=[1 / (rank + 1) for rank in range(VERSIONS)], k=executions)
        began = time.perf_counter()
        for number, key in enumerate(chosen):
            if len(under_way) == at_once:
                running[under_way.popleft()] -= 1
            engine = choose("consistent-hash", key, fleet, running).engine
            if engine is None:
                raise RuntimeError("no engine has room, though there is some")
            elsewhere += engine != next(fleet.ring.walk(key))
            running[engine] += 1
            under_way.append(engine)
            if number % 500 == 0 and len(under_way) == at_once:
                most = max(most, max(running.values()) * engines / len(under_way))
        seconds = time.perf_counter() - began
        most = max(most, max(running.values()) * engines / len(under_way))
        said = f"{full:.0%} full" if len(under_way) == at_once else f"{len(under_way) / engines / CAPACITY:.0%} full"
        yield figure.of([seconds / executions * 1e6], benchmark=name, measure=f"placing one, {said}", unit="µs")
        yield figure.of(
            [most], benchmark=name, measure=f"fullest engine over mean, {said}", unit="times", goal="≤ ⌈1.25 mean⌉"
        )


# --- discovery ---


class Pods:
    """What discovery uses of an API server: the same bytes, decoded as the client does."""

    namespace = "default"

    def __init__(self, engines: int) -> None:
        self.pods = [pod(name, number) for number, name in enumerate(names(engines))]
        self.body = msgspec.json.encode({"kind": "PodList", "apiVersion": "v1", "items": self.pods})
        self.received = 0
        self.events: asyncio.Queue[bytes] = asyncio.Queue()
        self._version = itertools.count(engines + 1)

    async def list(self, _resource: Any, *, labels: str = "") -> Page:
        del labels
        self.received += len(self.body)
        return Page(items=answers.decoded(self.body)["items"], resource_version="1")

    async def watch(self, _resource: Any, **_options: Any) -> AsyncGenerator[Event, None]:
        while True:
            line = await self.events.get()
            self.received += len(line)
            event = answers.decoded(line)
            yield Event(type=event["type"], object=event["object"])

    def turn(self, number: int) -> int:
        """A pod becomes ready, or ceases to be: how many bytes tell of that."""
        changed = self.pods[number]
        changed["metadata"]["resourceVersion"] = str(next(self._version))
        for condition in changed["status"]["conditions"]:
            condition["status"] = "False" if condition["status"] == "True" else "True"
        line = msgspec.json.encode({"type": "MODIFIED", "object": changed}) + b"\n"
        self.events.put_nowait(line)
        return len(line)


async def _discovery(engines: int, *, changes: int) -> list[Figure]:
    api, interval = Pods(engines), 30.0
    discovery = PodDiscovery(
        api,  # type: ignore[arg-type]  # it has all that is used
        SystemClock(),
        labels="app=workflow-engine",
        port=50051,
        interval=3_600,
    )
    took, sizes, listing = [], [], []
    async with asyncio.TaskGroup() as group:  # when the discovery breaks down, so does this
        running = group.create_task(discovery.run())
        levels = discovery.watch()
        if len(await anext(levels)) != engines:
            raise RuntimeError("not all engines were found")
        listed = api.received
        for _ in range(5):
            cpu = time.process_time()
            page = await api.list(None)
            discovery.addresses(page.items, set())
            listing.append((time.process_time() - cpu) * 1e3)
        for number in range(changes):
            began = time.perf_counter()
            sizes.append(api.turn(number % engines))
            await anext(levels)
            took.append((time.perf_counter() - began) * 1e3)
        await discovery.close()
        running.cancel()
    name = f"discovery of {engines:,} pods"
    hourly = listed * 3_600 / interval / 2**20
    return [
        figure.of([listed / 2**20], benchmark=name, measure="a list", unit="MiB"),
        figure.of(listing, benchmark=name, measure="a list, decoded and read", unit="ms"),
        figure.of([sum(sizes) / len(sizes) / 1024], benchmark=name, measure="a change", unit="KiB"),
        figure.of(took, benchmark=name, measure="from a change to the new set", unit="ms", goal="≤ 1,000"),
        figure.of([hourly], benchmark=name, measure=f"an hour, listed every {interval:.0f} s", unit="MiB"),
        figure.of([hourly / 10], benchmark=name, measure=f"an hour, listed every {interval * 10:.0f} s", unit="MiB"),
    ]


def pod(name: str, number: int) -> Object:
    """A pod of an engine as an API server has it, with what the server adds: about 9 KB."""
    env = [{"name": f"SETTING_{n}", "value": "a value of usual length"} for n in range(12)]
    probe = {"grpc": {"port": 50051, "service": ""}, "timeoutSeconds": 1, "periodSeconds": 5, "failureThreshold": 3}
    fields: Object = {
        f"f:{key}": {".": {}, "f:value": {}, "f:valueFrom": {"f:fieldRef": {}}} for key in map(str, range(24))
    }
    since = "2026-01-01T00:00:00Z"
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"{number:08x}-0000-4000-8000-{number:012x}",
            "resourceVersion": str(number + 1),
            "creationTimestamp": since,
            "labels": {"app": "workflow-engine", "pod-template-hash": "7d9f8c6b5", "app.kubernetes.io/name": "engine"},
            "annotations": {"workflow-engine/port": "50051", "workflow-engine/capacity": str(CAPACITY)},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name[:-8], "controller": True}],
            "managedFields": [
                {"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": fields, "f:status": fields}}
                for manager in ("kube-controller-manager", "kubelet")
            ],
        },
        "spec": {
            "containers": [
                {
                    "name": "engine",
                    "image": "dagengine-engine:0.1.0",
                    "env": env,
                    "resources": {"requests": {"cpu": "1", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
                    "readinessProbe": probe,
                    "livenessProbe": probe,
                    "startupProbe": probe,
                    "volumeMounts": [{"name": part, "mountPath": f"/var/{part}"} for part in ("tmp", "token", "spool")],
                }
            ],
            "volumes": [{"name": part, "emptyDir": {"sizeLimit": "1Gi"}} for part in ("tmp", "token", "spool")],
            "nodeName": f"node-{number % 100}",
            "tolerations": [
                {
                    "key": f"node.kubernetes.io/{key}",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 300,
                }
                for key in ("not-ready", "unreachable")
            ],
        },
        "status": {
            "phase": "Running",
            "podIP": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
            "conditions": [
                {"type": kind, "status": "True", "lastProbeTime": None, "lastTransitionTime": since}
                for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
            ],
            "containerStatuses": [{"name": "engine", "ready": True, "imageID": "sha256:" + "0" * 64}],
        },
    }


# --- sessions ---


def _sessions(sessions: int, *, seconds: float) -> Iterator[Figure]:
    """An orchestrator with idle engines: what each of them costs it. The engines are in one other process."""
    files = max(4_096, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    command = [sys.executable, "-m", "benchmarks.scale", "--serve", str(sessions)]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as engines:
        assert engines.stdout is not None
        grown, cpu, took = uvloop.run(_idle(json.loads(engines.stdout.readline()), seconds))
    name = f"{sessions:,} sessions, idle"
    yield figure.of([took], benchmark=name, measure="until all engines are ready", unit="s")
    yield figure.of([grown / sessions / 1024], benchmark=name, measure="memory, each", unit="KiB")
    yield figure.of(
        [cpu / seconds / sessions * 1e6], benchmark=name, measure="processor time a second, each", unit="µs"
    )


async def _idle(addresses: list[str], seconds: float) -> tuple[int, float, float]:
    """Bytes by which the process has grown, seconds of processor time while nothing happens, seconds until ready."""
    async with Orchestrator() as warm:
        await warm.engines()
    gc.collect()
    before, began = psutil.Process().memory_info().rss, time.perf_counter()
    async with Orchestrator(engines=addresses) as orchestrator:
        while sum(engine.state == "ready" for engine in await orchestrator.engines()) < len(addresses):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.05)
        took = time.perf_counter() - began
        await asyncio.sleep(1.0)
        gc.collect()
        grown, cpu = psutil.Process().memory_info().rss - before, time.process_time()
        await asyncio.sleep(seconds)
        return grown, time.process_time() - cpu, took


# --- facts ---


def _facts(*, seconds: float, repetitions: int) -> Iterator[Figure]:
    for replicas in (1, 2):
        rates = []
        for _ in range(repetitions):
            with postgres.database() as url:
                rates.append(uvloop.run(_append(url, replicas, seconds)))
        yield figure.of(
            rates,
            benchmark="facts into PostgreSQL, 100 a batch",
            measure=f"{replicas} replica{'s' * (replicas > 1)}, {WRITERS} writers each",
            unit="facts/s",
            more_is_better=True,
        )


async def _append(url: str, replicas: int, seconds: float) -> float:
    """Facts a second that all replicas together commit."""
    stores = [opening.make(url) for _ in range(replicas)]
    for number, store in enumerate(stores):
        await store.open()
        await store.join(f"r{number}", name=f"r{number}", lease=3_600_000_000)
    await stores[0].add_version(VERSION)
    fact = encode(NodeSucceeded(at=1_767_225_600_000_000, node="transform-rows", result=msgspec.Raw(b'{"rows":3}')))
    until = time.perf_counter() + seconds

    async def write(store: Store, name: str) -> int:
        new = NewExecution(
            id=name, workflow="w", version="1.0.0", digest=VERSION.digest, inputs=b"{}", created_at=1, seed=1
        )
        await store.create_execution(new)
        await store.dispatch([name], "engine-1")
        written = 0
        while time.perf_counter() < until:
            (answer,) = await store.append([Batch(execution=name, epoch=1, first_seq=written + 1, facts=[fact] * 100)])
            written = answer.last_seq
        return written

    work = [write(store, f"e{at}-{number}") for at, store in enumerate(stores) for number in range(WRITERS)]
    began = time.perf_counter()
    written = sum(await asyncio.gather(*work))
    took = time.perf_counter() - began
    for store in stores:
        await store.close()
    return written / took


async def serve(sessions: int) -> None:
    """The engines' process: announces their addresses, ends with its standard input."""
    servers = []
    for number in range(sessions):
        servers.append(EngineServer(Host(FloodEngine(0), engine_id=f"engine-{number}", version="0", capacity=CAPACITY)))
        await servers[-1].start()
    print(json.dumps([server.address for server in servers]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for server in servers:
        await server.stop()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        uvloop.run(serve(int(sys.argv[2])))
    else:
        figure.main(figures, "What a thousand engines cost an orchestrator.")
