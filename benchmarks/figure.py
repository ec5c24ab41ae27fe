"""What a benchmark says: figures, and the conditions under which they were taken. Used by every module here."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from rich.console import Console
from rich.table import Table

__all__ = ["Figure", "conditions", "main", "of", "show"]

Figures = Callable[..., Iterator["Figure"]]
"""`figures(*, quick)`: takes the measurements, and gives each as soon as it is there. `quick` is for tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value: the median and the best of `repetitions`. `goal` is a text such as `≤ 15`, or empty."""

    benchmark: str
    measure: str
    unit: str
    median: float
    best: float
    repetitions: int
    goal: str = ""


def of(
    values: Sequence[float], *, benchmark: str, measure: str, unit: str, more_is_better: bool = False, goal: str = ""
) -> Figure:
    """The figure that repeated measurements come to. Raises StatisticsError without any."""
    return Figure(
        benchmark=benchmark,
        measure=measure,
        unit=unit,
        median=statistics.median(values),
        best=max(values) if more_is_better else min(values),
        repetitions=len(values),
        goal=goal,
    )


def conditions() -> str:
    """The machine and the versions, in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    parts = [
        f"{cores} cores",
        load,
        f"{platform.system()} {platform.machine()}",
        f"Python {platform.python_version()}",
        *(f"{name} {version(name)}" for name in ("lupa", "grpcio", "msgspec")),
    ]
    return ", ".join(part for part in parts if part)


def show(figures: Iterable[Figure]) -> None:
    """Print the figures as one table on standard output."""
    table = Table(box=None, pad_edge=False)
    for name, justify in (("benchmark", "left"), ("measure", "left"), ("median", "right"), ("best", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # a literal, lost in the loop
    table.add_column("unit", no_wrap=True)
    table.add_column("n", justify="right")
    table.add_column("goal", no_wrap=True)
    for figure in figures:
        table.add_row(
            figure.benchmark,
            figure.measure,
            _number(figure.median),
            _number(figure.best),
            figure.unit,
            str(figure.repetitions),
            figure.goal,
        )
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)


def main(figures: Figures, description: str) -> None:
    """The command line of one module of benchmarks."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter repetitions")
    quick = parser.parse_args().quick
    print(conditions())
    show(figures(quick=quick))


def _number(value: float) -> str:
    if value >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"
