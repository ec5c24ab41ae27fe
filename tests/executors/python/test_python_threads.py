"""Threads for calls that may never return: a hanging call costs its own thread and nobody else's."""

from __future__ import annotations

import threading

import pytest

from dagengine.app import DAGEngine
from dagengine.errors import ExecutionFailed, ExecutorError
from dagengine.executors.python.threads import Threads

WAIT = 10.0


@pytest.fixture
def release():
    event = threading.Event()
    yield event
    event.set()


def test_a_call_that_was_written_off_makes_room_for_another(release: threading.Event) -> None:
    threads = Threads(1)
    begun, second = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait()

    hanging = threads.run(hang)
    assert begun.wait(WAIT)
    threads.run(second.set)
    assert not second.is_set()
    threads.drop(hanging)
    assert second.wait(WAIT)
    threads.close()


def test_a_waiting_call_that_is_dropped_never_runs(release: threading.Event) -> None:
    threads = Threads(1)
    ran: list[str] = []
    last = threading.Event()
    threads.run(lambda: (release.wait(), ran.append("first"))[0] and None)
    waiting = threads.run(lambda: ran.append("dropped"))
    threads.run(lambda: (ran.append("last"), last.set())[0])
    threads.drop(waiting)
    release.set()
    assert last.wait(WAIT)
    assert ran == ["first", "last"]
    threads.close()


def test_too_many_hanging_calls_are_refused(release: threading.Event) -> None:
    threads = Threads(1, hanging_limit=2)
    for _ in range(2):
        begun = threading.Event()

        def hang(begun: threading.Event = begun) -> None:
            begun.set()
            release.wait()

        call = threads.run(hang)
        assert begun.wait(WAIT)
        threads.drop(call)
    with pytest.raises(ExecutorError, match="2 calls that exceeded their timeouts have not returned"):
        threads.run(lambda: None)
    threads.close()


def test_threads_that_hung_end_when_their_call_returns(release: threading.Event) -> None:
    threads = Threads(2)
    begun = threading.Event()
    found: list[threading.Thread] = []

    def hang() -> None:
        found.append(threading.current_thread())
        begun.set()
        release.wait()

    call = threads.run(hang)
    assert begun.wait(WAIT)
    threads.drop(call)
    release.set()
    found[0].join(WAIT)
    assert not found[0].is_alive()
    threads.close()


async def test_functions_that_hang_beyond_their_timeout_do_not_starve_the_others(release: threading.Event) -> None:
    hanging = [
        {
            "id": f"hang{i}",
            "timeout": "20ms",
            "retry": {"error": {"max_attempts": 1}},
            "executor": {"type": "python", "function": "hang"},
        }
        for i in range(20)
    ]
    last = {
        "id": "last",
        "dependencies": [node["id"] for node in hanging],
        "run_if": "all_done",
        "executor": {"type": "python", "function": "quick"},
    }
    document = {
        "apiVersion": "workflows/v1",
        "kind": "Workflow",
        "metadata": {"id": "w", "version": "1.0.0"},
        "spec": {"nodes": [*hanging, last]},
    }
    ran: list[str] = []
    functions = {"hang": lambda: release.wait() and None, "quick": lambda: ran.append("quick")}
    async with DAGEngine(functions=functions) as engine:
        with pytest.raises(ExecutionFailed) as raised:
            await engine.run(document)
    assert ran == ["quick"]
    assert len(raised.value.nodes) == 20
