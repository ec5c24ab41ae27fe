"""The public surface by name: what the packages export, that it is listed, and that importing them costs nothing."""

from __future__ import annotations

import importlib
import importlib.resources
import subprocess
import sys

import pytest

EXPORTED = {
    "dagengine": {
        "DAGEngine",
        "Workflow",
        "Node",
        "LuaExecutor",
        "PythonExecutor",
        "ShellExecutor",
        "HTTPExecutor",
        "WaitExecutor",
        "Signal",
        "Approval",
        "Cache",
        "Concurrency",
        "Retry",
        "RetryPolicy",
        "CronTrigger",
        "HTTPTrigger",
        "Document",
        "read_workflow",
        "attempt",
        "Context",
        "Fail",
        "Cancelled",
        "DAGEngineError",
        "ExecutionFailed",
        "InputError",
        "Problem",
        "SpecError",
    },
    "orchestrator": {"Client", "CronTrigger", "HTTPTrigger", "Monitor", "Options", "Orchestrator"},
}
NAMES = [(package, name) for package, names in EXPORTED.items() for name in sorted(names)]

HEAVY = ("grpc", "pydantic", "lupa", "sqlalchemy", "fastapi", "typer", "rich", "asyncio", "httpx", "prometheus_client")


@pytest.mark.parametrize("package", list(EXPORTED))
def test_a_package_exports_these_names_and_no_others(package: str) -> None:
    assert set(importlib.import_module(package).__all__) == EXPORTED[package]


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_a_name_can_be_imported_and_is_listed(package: str, name: str) -> None:
    module = importlib.import_module(package)
    assert getattr(getattr(module, name), "__name__", name) == name
    assert name in dir(module)


def test_the_two_packages_share_their_triggers() -> None:
    import dagengine
    import orchestrator

    assert orchestrator.CronTrigger is dagengine.CronTrigger
    assert orchestrator.HTTPTrigger is dagengine.HTTPTrigger


def test_every_error_of_the_engine_has_one_root() -> None:
    import dagengine

    for name in ("ExecutionFailed", "InputError", "SpecError"):
        assert issubclass(getattr(dagengine, name), dagengine.DAGEngineError)


@pytest.mark.parametrize("package", list(EXPORTED))
def test_what_is_not_built_is_not_exported(package: str) -> None:
    module = importlib.import_module(package)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'ContainerExecutor'"):
        _ = module.ContainerExecutor
    with pytest.raises(ImportError):
        exec(f"from {package} import ContainerExecutor")


@pytest.mark.parametrize("package", list(EXPORTED))
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    probe = f"import sys, {package}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


@pytest.mark.parametrize("package", list(EXPORTED))
def test_a_star_import_gives_every_name(package: str) -> None:
    found: dict[str, object] = {}
    exec(f"from {package} import *", found)
    assert EXPORTED[package] <= set(found)


@pytest.mark.parametrize("package", list(EXPORTED))
def test_the_package_is_typed(package: str) -> None:
    module = importlib.import_module(package)
    assert importlib.resources.files(module).joinpath("py.typed").is_file()
