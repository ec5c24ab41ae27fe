"""Functions named by path: what is allowed, what is imported and when, what is told when it is not there."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from dagengine.clock import SystemClock
from dagengine.executors.python import PythonFunctions
from dagengine.executors.python.allowed import Allowed

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("pattern", "path", "allowed"),
    [
        ("a.b:f", "a.b:f", True),
        ("a.b:f", "a.b:g", False),
        ("a.b:*", "a.b:anything", True),
        ("a.b:*", "a.b.c:f", False),
        ("a.*:run_*", "a.b.c:run_it", True),
        ("a.*:run_*", "a:run_it", False),
        ("a.*:run_*", "a.b:other", False),
        ("a.b:f?", "a.b:f1", True),
        ("a:*", "a:_private", False),
        ("a:_*", "a:_private", True),
        ("A:f", "a:f", False),
        ("*:*", "os:system", True),
    ],
)
def test_patterns(pattern: str, path: str, allowed: bool) -> None:
    assert (path in Allowed([pattern])) is allowed


@pytest.mark.parametrize("pattern", ["", "a", "a:", ":f", "a b:f", "a:f.g", "a[x]:f", "a:b:c", "../a:f", "a..b:f"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="allows no function: write package"):
        PythonFunctions(clock=SystemClock(), allow=[pattern])


@pytest.fixture
async def open_calls(calls_with: Callable[..., Any]) -> AsyncIterator[Any]:
    """Calls of an executor that allows everything."""
    made = calls_with(allow=["*:*"])
    yield made
    await made.executor.close()


async def test_a_function_is_imported_when_it_is_first_called(open_calls, module) -> None:
    name = module("def f(a, b=1): return a + b")
    assert open_calls.executor.missing(f"{name}:f") is None
    assert name not in sys.modules
    outcomes = [await open_calls.outcome(f"{name}:f", args={"a": 1}) for _ in range(2)]
    assert [outcome.result for outcome in outcomes] == [b"2", b"2"]
    assert name in sys.modules


async def test_modules_are_imported_beside_the_loop_and_asynchronous_functions_run_on_it(open_calls, module) -> None:
    name = module("""
        import threading
        where = threading.current_thread() is threading.main_thread()
        async def f(): return [where, threading.current_thread() is threading.main_thread()]
    """)
    assert (await open_calls.outcome(f"{name}:f")).result == b"[false,true]"


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_what_is_not_allowed_is_never_imported(calls_with, module, isolation: str) -> None:
    name = module("def f(): pass\ndef g(): pass")
    calls = calls_with(allow=[f"{name}:g"])
    outcome = await calls.outcome(f"{name}:f", isolation=isolation)
    words = "is not registered here, and this engine does not allow to import it (ENGINE_PYTHON_ALLOW)"
    assert (outcome.conclusion, outcome.error.type) == ("fail", "FunctionMissing")
    assert outcome.error.message == f"the function '{name}:f' {words}"
    assert calls.executor.missing(f"{name}:f", isolation=isolation) == words
    assert name not in sys.modules
    assert calls.executor.worker_pids() == []
    await calls.executor.close()


async def test_nothing_is_allowed_unless_it_is_said(calls) -> None:
    assert "does not allow to import it" in calls.executor.missing("os:getcwd")
    assert calls.executor.missing("f") == "is not registered here"


class TestMissing:
    @pytest.mark.parametrize("isolation", ["thread", "process"])
    async def test_a_module_that_is_not_there(self, open_calls, isolation: str) -> None:
        missing = open_calls.executor.missing("nowhere_at_all.x:f", isolation=isolation)
        assert missing == "cannot be imported: there is no module 'nowhere_at_all.x' here"
        outcome = await open_calls.outcome("nowhere_at_all.x:f", isolation=isolation)
        assert (outcome.conclusion, outcome.error.type) == ("fail", "FunctionMissing")
        assert "No module named 'nowhere_at_all'" in outcome.error.message

    async def test_no_package_is_imported_to_find_out(self, open_calls, module) -> None:
        name = module("def f(): return 5", name="pack_of_work.inner.deep")
        assert open_calls.executor.missing(f"{name}:f") is None
        assert open_calls.executor.missing("pack_of_work.inner.shallow:f") is not None
        assert open_calls.executor.missing("pack_of_work.inner.deep.deeper:f") is not None
        assert "pack_of_work" not in sys.modules
        assert (await open_calls.outcome(f"{name}:f")).result == b"5"
        assert open_calls.executor.missing(f"{name}:g") == f"is not there: the module '{name}' has no function 'g'"

    async def test_modules_that_packages_make_up_are_found(self, open_calls) -> None:
        assert open_calls.executor.missing("os.path:nothing") == (
            "is not there: the module 'os.path' has no function 'nothing'"
        )

    @pytest.mark.parametrize("isolation", ["thread", "process"])
    @pytest.mark.parametrize(
        ("source", "why"),
        [
            ("raise RuntimeError('no database')", "cannot be imported: RuntimeError: no database"),
            ("import sys\nsys.exit(1)", "cannot be imported: SystemExit: 1"),
            ("g = 1", "is not there: the module '{name}' has no function 'f'"),
            ("f = 1", "is not there: the module '{name}' has no function 'f'"),
            ("from os import system as f", "is not defined in '{name}', nor in its `__all__`: name the module that "),
            ("def f(a, /): pass", "cannot be called by nodes: its parameter 'a' is positional-only"),
        ],
        ids=["broken", "exits", "absent", "no function", "imported", "positional"],
    )
    async def test_why_an_attempt_fails(self, open_calls, module, source: str, why: str, isolation: str) -> None:
        name = module(source)
        outcome = await open_calls.outcome(f"{name}:f", isolation=isolation)
        assert (outcome.conclusion, outcome.error.type) == ("fail", "FunctionMissing")
        assert outcome.error.message.startswith(f"the function '{name}:f' {why.format(name=name)}")

    async def test_what_a_module_offers_may_come_from_another(self, open_calls, module) -> None:
        inner = module("def f(): return 7")
        outer = module(f"from {inner} import f\n__all__ = ['f']")
        assert (await open_calls.outcome(f"{outer}:f")).result == b"7"

    async def test_a_module_that_failed_is_tried_again(self, open_calls, module, tmp_path) -> None:
        name = module(f"import pathlib\nassert pathlib.Path({str(tmp_path / 'up')!r}).exists()\ndef f(): return 1")
        assert (await open_calls.outcome(f"{name}:f")).error.type == "FunctionMissing"
        (tmp_path / "up").touch()
        assert (await open_calls.outcome(f"{name}:f")).result == b"1"


async def test_a_registered_function_wins_over_a_path(open_calls, module) -> None:
    name = module("def f(): return 'imported'")
    open_calls.executor.register(f"{name}:f", lambda: "registered")
    assert (await open_calls.outcome(f"{name}:f")).result == b'"registered"'


async def test_its_timeout_counts_from_the_import(open_calls, module) -> None:
    gate = module("import threading\nopen = threading.Event()\ndone = threading.Event()")
    name = module(f"import {gate}\n{gate}.open.wait(30)\ndef f(): pass\n{gate}.done.set()")
    gates = importlib.import_module(gate)
    outcome = await open_calls.outcome(f"{name}:f", timeout=SECOND // 50)
    assert (outcome.conclusion, outcome.error.type) == ("error", "Timeout")
    gates.open.set()
    assert await asyncio.to_thread(gates.done.wait, 10)
