"""Where the simulation meets the product: what is replaced in it, and nothing else is.

Randomness and time come from the simulation, log lines go into its story, and the adapters at the edge (database
file, gRPC, threads) are those of the simulation. Everything is put in place once per process (`install`), for whatever
world is `entered`.
"""

from __future__ import annotations

import random
import secrets
import sys
import threading
import time as real_time
import uuid
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Final, Protocol

import structlog
from simulation.loop import START, SimulatedLoop

from dagengine.executors.lua.evaluator import LuaEvaluator

__all__ = ["EVALUATOR", "World", "enter", "install"]

EVALUATOR: Final = LuaEvaluator()
"""Pure, so one serves all engines of all worlds."""


class World(Protocol):
    """What is asked of the world that is entered."""

    loop: SimulatedLoop
    chance: random.Random

    def logged(self, level: str, event: str, members: Mapping[str, object]) -> None:
        """The product has logged something."""

    def store(self) -> object:
        """The store of the process that is running."""

    def transport(self, identity: object) -> object:
        """The transport of the process that is running."""

    def cluster(self) -> object:
        """The Kubernetes API, as the process that is running reaches it."""

    def steady(self) -> object:
        """A clock that nobody sets, of the machine of the process that is running."""


_world: World | None = None


def enter(world: World | None) -> None:
    """From now on everything happens in `world`."""
    global _world
    _world = world
    if world is not None:
        random.seed(world.chance.random())


def _entered() -> World:
    assert _world is not None, "nothing of the product may run outside a world"
    return _world


def install() -> None:
    """Replace what is replaced. Once per process, after the product has been imported."""
    import orchestrator.app
    import orchestrator.evaluation
    import orchestrator.in_kubernetes

    secrets.randbits = lambda bits: _entered().chance.getrandbits(bits)
    secrets.token_bytes = lambda size=32: _entered().chance.randbytes(size or 32)
    secrets.token_hex = lambda size=32: _entered().chance.randbytes(size or 32).hex()
    uuid.uuid4 = lambda: uuid.UUID(int=_entered().chance.getrandbits(128), version=4)
    threading.Thread.start = _refuse  # type: ignore[method-assign]
    replace_adapters(orchestrator.app, orchestrator.evaluation, orchestrator.in_kubernetes)
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("dagengine", "orchestrator") and getattr(module, "time", None) is real_time:
            module.time = _TIME  # type: ignore[attr-defined]  # the whole module, for this one alone
    structlog.configure(
        processors=[_log],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        logger_factory=lambda *_: SimpleNamespace(**dict.fromkeys(_LEVELS, _drop)),
    )


def replace_adapters(app: Any, evaluation: Any, in_kubernetes: Any) -> None:
    """The store, the transport, the thread of expressions, and the Kubernetes API with what chance and time it uses."""
    app.opening.make = lambda *_, **__: _entered().store()
    app.GrpcTransport = lambda identity, **_: _entered().transport(identity)
    evaluation.EvaluatorAside = lambda evaluator: evaluator
    election = in_kubernetes.LeaseElection
    in_kubernetes.KubernetesCluster = lambda *_, **__: _entered().cluster()
    in_kubernetes.SystemClock = lambda **_: _entered().steady()
    in_kubernetes.LeaseElection = lambda *given, **options: election(*given, **options, chance=_entered().chance)


_start = threading.Thread.start


def _refuse(thread: threading.Thread) -> None:
    assert _world is None, f"{thread} has no place in a world"
    _start(thread)


_LEVELS = ("debug", "info", "warning", "error", "critical", "exception", "msg", "log")


def _drop(*_: object, **__: object) -> None: ...


def _log(_: object, level: str, members: dict[str, Any]) -> Mapping[str, Any]:
    if _world is not None:
        event = members.pop("event")
        if members.get("exc_info") is True:
            members["exc_info"] = sys.exc_info()[1]
        _world.logged(level, event, members)
    raise structlog.DropEvent


def _nanoseconds() -> int:
    return START * 1_000 + round(_entered().loop.now * 1e9)


def _seconds() -> float:
    return _entered().loop.now


_TIME: Final = SimpleNamespace(
    time_ns=_nanoseconds,
    time=lambda: _nanoseconds() / 1e9,
    monotonic_ns=_nanoseconds,
    monotonic=_seconds,
    perf_counter=_seconds,
    perf_counter_ns=_nanoseconds,
    process_time=_seconds,
    thread_time_ns=_nanoseconds,
)
