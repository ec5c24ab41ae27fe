"""The counts of a monitor in the Prometheus text format. Imported when metrics are first asked for.

Every monitor has a registry of its own, so that several orchestrators can live in one process. No label takes values
that users make up (ids, paths): the number of series is fixed. Names of pools are those that operators have declared.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import prometheus_client
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from orchestrator.monitor.counts import Discovered, Histogram, Scaled
    from orchestrator.monitor.monitor import Monitor
    from orchestrator.verbs import PoolView

__all__ = ["Exposition"]

_STATUSES: Final = ("succeeded", "failed", "cancelled")
_STATES: Final = ("connecting", "ready", "draining", "unhealthy", "unreachable")
_REFUSALS: Final = ("gap", "fenced")
_OUTCOMES: Final = ("started", "refused", "skipped")


class Exposition(Collector):
    """Shows one monitor to Prometheus."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._registry = prometheus_client.CollectorRegistry()
        self._registry.register(self)
        prometheus_client.ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """All metrics, now."""
        return prometheus_client.generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        yield InfoMetricFamily(
            "dagengine_build",
            "The running version.",
            value={"version": importlib.metadata.version("dagengine")},
        )
        yield from self._levels()
        yield from self._counts()
        yield _histogram(
            "dagengine_execution_duration_seconds",
            "Time from the first fact of an execution to its last.",
            self._monitor.execution_seconds,
        )
        yield _histogram(
            "dagengine_commit_duration_seconds",
            "Time that transactions with facts took.",
            self._monitor.commit_seconds,
        )

    def _levels(self) -> Iterator[Metric]:
        levels = self._monitor.levels()
        yield GaugeMetricFamily("dagengine_executions_running", "Executions that an engine has.", levels.running)
        yield GaugeMetricFamily("dagengine_executions_queued", "Executions that wait for an engine.", levels.queued)
        engines = GaugeMetricFamily("dagengine_engines", "Engines by state.", labels=["state"])
        for state in _STATES:
            engines.add_metric([state], levels.engines.get(state, 0))
        yield engines
        yield GaugeMetricFamily(
            "dagengine_leader", "1 while this orchestrator leads the replicas.", int(self._monitor.leads)
        )
        yield from _pools(levels.pools)
        yield from _discoveries(levels.discoveries)
        if levels.scaling is not None:
            yield from _scaling(levels.scaling)

    def _counts(self) -> Iterator[Metric]:
        monitor = self._monitor
        yield CounterMetricFamily("dagengine_executions_started", "Executions that were accepted.", monitor.started)
        yield CounterMetricFamily(
            "dagengine_executions_reopened", "Executions that were to go on after they had ended.", monitor.reopened
        )
        yield _by_label(
            "dagengine_executions_finished", "Executions that ended.", "status", _STATUSES, monitor.finished
        )
        yield CounterMetricFamily("dagengine_facts_committed", "Facts that were made durable.", monitor.committed)
        yield _by_label(
            "dagengine_facts_refused", "Facts that the store did not take.", "reason", _REFUSALS, monitor.refused
        )
        yield CounterMetricFamily(
            "dagengine_store_lost_facts",
            "Facts that engines were told to be committed, and that the store does not have.",
            monitor.lost,
        )
        yield CounterMetricFamily(
            "dagengine_leaderships", "Times that this orchestrator has become the leader.", monitor.leaderships
        )
        yield CounterMetricFamily(
            "dagengine_executions_adopted", "Executions that engines went on with in a new session.", monitor.adopted
        )
        yield CounterMetricFamily(
            "dagengine_executions_parked", "Times that an execution was taken from its engine to wait.", monitor.parked
        )
        yield CounterMetricFamily(
            "dagengine_executions_taken_over", "Executions taken over from another owner.", monitor.taken_over
        )
        yield _by_label("dagengine_cron_occurrences", "Cron occurrences.", "outcome", _OUTCOMES, monitor.occurrences)
        yield CounterMetricFamily("dagengine_purged_executions", "Executions that were deleted.", monitor.purged)
        yield CounterMetricFamily("dagengine_purged_rows", "Rows of the store that were deleted.", monitor.purged_rows)
        requests = CounterMetricFamily(
            "dagengine_http_requests", "HTTP requests that were answered.", labels=["method", "status"]
        )
        for (method, status), count in sorted(monitor.requests.items()):
            requests.add_metric([method, str(status)], count)
        yield requests


def _pools(pools: Iterable[PoolView]) -> Iterator[Metric]:
    """Pools over the whole system one by one; those of the same name that engines have for themselves added up.

    Those that another replica counts are left to it.
    """
    labels = ["pool", "scope"]
    size = GaugeMetricFamily("dagengine_pool_size", "Room that pools have.", labels=labels)
    used = GaugeMetricFamily("dagengine_pool_used", "Room in pools that is taken.", labels=labels)
    waiting = GaugeMetricFamily("dagengine_pool_waiting", "Attempts that wait for room in pools.", labels=labels)
    sums: dict[tuple[str, str], list[int]] = {}
    for pool in pools:
        if pool.used is None or pool.waiting is None:
            continue
        total = sums.setdefault((pool.name, pool.scope), [0, 0, 0])
        for index, value in enumerate((pool.size, pool.used, pool.waiting)):
            total[index] += value
    for label, values in sorted(sums.items()):
        for family, value in zip((size, used, waiting), values, strict=True):
            family.add_metric(label, value)
    yield from (size, used, waiting)


def _discoveries(discoveries: Iterable[Discovered]) -> Iterator[Metric]:
    engines = GaugeMetricFamily("dagengine_discovery_engines", "Engines that are named.", labels=["source"])
    frozen = GaugeMetricFamily(
        "dagengine_discovery_frozen",
        "1 while changes are not heard of, so that known engines are kept.",
        labels=["source"],
    )
    changes = CounterMetricFamily("dagengine_discovery_changes", "Sets of engines that were told.", labels=["source"])
    for found in discoveries:
        engines.add_metric([found.source], found.engines)
        frozen.add_metric([found.source], int(found.frozen))
        changes.add_metric([found.source], found.changes)
    yield from (engines, frozen, changes)


def _scaling(scaled: Scaled) -> Iterator[Metric]:
    """Only the replica that leads has these."""
    for name, documentation, value in (
        ("desired", "Engines that the workload should have, by what there is to run.", scaled.desired),
        ("replicas", "Engines that the workload is to have now.", scaled.replicas),
        ("draining", "Engines that are being emptied to be removed.", scaled.draining),
        ("load", "Executions that engines of the workload have, or that wait for one.", scaled.load),
        ("frozen", "1 while nothing is scaled, because what is known may be out of date.", int(scaled.frozen)),
    ):
        yield GaugeMetricFamily(f"dagengine_autoscaling_{name}", documentation, value)
    yield _by_label(
        "dagengine_autoscaling_changes",
        "Times that the workload was scaled.",
        "direction",
        ("up", "down"),
        scaled.changes,
    )


def _by_label(
    name: str, documentation: str, label: str, expected: tuple[str, ...], counts: dict[str, int]
) -> CounterMetricFamily:
    """A counter whose expected series are there from the start, at 0, so that rates over them work."""
    family = CounterMetricFamily(name, documentation, labels=[label])
    for value in sorted({*expected, *counts}):
        family.add_metric([value], counts.get(value, 0))
    return family


def _histogram(name: str, documentation: str, histogram: Histogram) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, documentation, buckets=histogram.cumulative(), sum_value=histogram.total)
