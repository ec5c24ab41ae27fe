"""The benchmarks run and say what they measured; what they measure is what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks import figure, machine, memory, scale

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment, timeout=120)


@pytest.mark.parametrize("shape", machine.SHAPES)
def test_a_dag_has_as_many_nodes_or_items_as_it_says(shape: str) -> None:
    nodes = machine.nodes(shape, 100)
    expected = {"foreach": 2, "foreach, bounded": 2, "foreach, read": 3}.get(shape, 100)
    assert len({node["id"] for node in nodes}) == len(nodes) == expected
    known: set[str] = set()
    for node in nodes:
        assert known.issuperset(node["dependencies"])
        known.add(node["id"])


def test_the_layered_dag_has_three_dependencies_a_node() -> None:
    nodes = machine.nodes("layered", 10_000)
    assert [len(node["dependencies"]) for node in nodes] == [0] * 100 + [3] * 9_900


def test_a_figure_has_the_median_and_the_best() -> None:
    fast = figure.of([3.0, 1.0, 2.0, 9.0], benchmark="b", measure="m", unit="s")
    assert (fast.median, fast.best, fast.repetitions) == (2.5, 1.0, 4)
    many = figure.of([3.0, 1.0], benchmark="b", measure="m", unit="1/s", more_is_better=True)
    assert many.best == 3.0


@pytest.mark.e2e
def test_the_machine_is_measured_in_every_shape() -> None:
    ran = run("--quick", "machine")
    assert ran.returncode == 0, ran.stderr
    for shape in machine.SHAPES:
        assert f"{shape}, 100 nodes" in ran.stdout
    assert "dagctl run hello.yaml" in ran.stdout


@pytest.mark.e2e
def test_memory_is_measured_for_every_kind_of_waiting() -> None:
    ran = run("--quick", "memory")
    assert ran.returncode == 0, ran.stderr
    for kind in memory.NODES:
        assert f"{kind}, 1,000 nodes: all of it" in ran.stdout
    for kind in memory.ITEMS:
        assert f"{kind}, 1,0" in ran.stdout


@pytest.mark.e2e
def test_rest_is_measured_over_two_engines() -> None:
    ran = run("--quick", "rest")
    assert ran.returncode == 0, ran.stderr
    assert "executions/s" in ran.stdout
    assert "open loop, half load, p99" in ran.stdout


@pytest.mark.e2e
def test_what_waiting_costs_is_measured() -> None:
    ran = run("--quick", "waiting")
    assert ran.returncode == 0, ran.stderr
    for measure in ("started, run and parked", "capacity in use while all wait", "until 150 have ended"):
        assert measure in ran.stdout


@pytest.mark.e2e
def test_what_many_engines_cost_is_measured() -> None:
    ran = run("--quick", "scale")
    assert ran.returncode == 0, ran.stderr
    for measure in (
        "one comes",
        "fullest engine over mean, 95% full",
        "a change",
        "processor time a second",
        "2 replicas",
    ):
        assert measure in ran.stdout


def test_the_pods_are_of_the_size_that_api_servers_send() -> None:
    sizes = [len(msgspec.json.encode(scale.pod(name, number))) for number, name in enumerate(scale.names(10))]
    assert all(8_000 < size < 10_000 for size in sizes)
    assert len({str(scale.pod("a", number)["status"]["podIP"]) for number in range(1_000)}) == 1_000


def test_an_unknown_benchmark_is_refused() -> None:
    ran = run("nothing")
    assert ran.returncode == 2
    assert "unknown benchmark nothing; there are machine" in ran.stderr
