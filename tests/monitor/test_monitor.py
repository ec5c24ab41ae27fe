"""What a monitor counts, shows and passes on."""

from __future__ import annotations

import subprocess
import sys

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from dagengine.events.facts import ExecutionCancelled, NodeStarted, encode
from orchestrator.monitor.counts import Histogram, Levels, Scaled
from orchestrator.monitor.monitor import CommittedFact, Monitor
from orchestrator.verbs import PoolView

FACTS = [encode(NodeStarted(at=1, node="a")), encode(NodeStarted(at=2, node="b")), encode(ExecutionCancelled(at=3))]


def _samples(monitor: Monitor) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(monitor.metrics().decode())
        for sample in family.samples
    }


def _busy() -> Monitor:
    monitor = Monitor()
    monitor.attach(lambda: Levels(running=2, queued=1, engines={"ready": 2, "draining": 1}))
    for _ in range(3):
        monitor.execution_started()
    monitor.execution_ended("succeeded", 0.02)
    monitor.execution_ended("failed", 100.0)
    monitor.facts_committed("e-1", 1, FACTS)
    monitor.facts_refused("fenced", 4)
    monitor.commit_took(0.002)
    monitor.occurrence("started")
    monitor.request_answered("GET", 200)
    for leads in (True, False, True):
        monitor.led(leads)
    return monitor


def test_a_snapshot_holds_all_counts_and_levels() -> None:
    snapshot = _busy().snapshot()
    assert (snapshot.running, snapshot.queued, snapshot.engines) == (2, 1, {"ready": 2, "draining": 1})
    assert (snapshot.started, snapshot.finished) == (3, {"succeeded": 1, "failed": 1})
    assert (snapshot.facts_committed, snapshot.facts_refused) == (3, {"fenced": 4})
    assert snapshot.occurrences == {"started": 1}
    assert (snapshot.leads, snapshot.leaderships) == (True, 2)


def test_metrics_say_the_same_in_the_prometheus_format() -> None:
    samples = _samples(_busy())
    assert samples["dagengine_executions_started_total", ()] == 3
    assert samples["dagengine_executions_finished_total", (("status", "failed"),)] == 1
    assert samples["dagengine_executions_finished_total", (("status", "cancelled"),)] == 0
    assert samples["dagengine_executions_running", ()] == 2
    assert samples["dagengine_executions_queued", ()] == 1
    assert samples["dagengine_leader", ()] == 1
    assert samples["dagengine_leaderships_total", ()] == 2
    assert samples["dagengine_engines", (("state", "ready"),)] == 2
    assert samples["dagengine_engines", (("state", "unreachable"),)] == 0
    assert samples["dagengine_facts_committed_total", ()] == 3
    assert samples["dagengine_facts_refused_total", (("reason", "fenced"),)] == 4
    assert samples["dagengine_cron_occurrences_total", (("outcome", "started"),)] == 1
    assert samples["dagengine_http_requests_total", (("method", "GET"), ("status", "200"))] == 1
    assert samples["dagengine_execution_duration_seconds_count", ()] == 2
    assert samples["dagengine_execution_duration_seconds_sum", ()] == pytest.approx(100.02)
    assert samples["dagengine_execution_duration_seconds_bucket", (("le", "0.025"),)] == 1
    assert samples["dagengine_commit_duration_seconds_bucket", (("le", "+Inf"),)] == 1


def test_pools_are_gauges_and_those_of_engines_are_added_up() -> None:
    monitor = Monitor()
    pools = [
        PoolView(name="db", scope="system", size=10, used=4, waiting=2),
        PoolView(name="gpu", scope="engine", engine="engine-1", size=1, used=1, waiting=3),
        PoolView(name="gpu", scope="engine", engine="engine-2", size=2, used=0, waiting=0),
    ]
    monitor.attach(lambda: Levels(pools=pools))
    samples = _samples(monitor)
    db, gpu = (("pool", "db"), ("scope", "system")), (("pool", "gpu"), ("scope", "engine"))
    for labels, values in ((db, (10, 4, 2)), (gpu, (3, 1, 3))):
        names = ("dagengine_pool_size", "dagengine_pool_used", "dagengine_pool_waiting")
        assert tuple(samples[name, labels] for name in names) == values


def test_scaling_is_told_by_the_replica_that_does_it() -> None:
    monitor = Monitor()
    assert not any("autoscaling" in name for name, _ in _samples(monitor))
    scaled = Scaled(desired=4, replicas=3, draining=1, load=31, frozen=True, changes={"up": 2})
    monitor.attach(lambda: Levels(scaling=scaled))
    samples = _samples(monitor)
    names = ("desired", "replicas", "draining", "load", "frozen")
    assert [samples[f"dagengine_autoscaling_{name}", ()] for name in names] == [4, 3, 1, 31, 1]
    changes = "dagengine_autoscaling_changes_total"
    assert samples[changes, (("direction", "up"),)] == 2
    assert samples[changes, (("direction", "down"),)] == 0


def test_two_monitors_in_one_process_count_apart() -> None:
    assert _samples(_busy())["dagengine_executions_started_total", ()] == 3
    assert _samples(Monitor())["dagengine_executions_started_total", ()] == 0


def test_a_subscriber_gets_each_committed_fact_in_order_until_it_unsubscribes() -> None:
    monitor = Monitor()
    seen: list[CommittedFact] = []
    unsubscribe = monitor.subscribe(seen.append)
    monitor.facts_committed("e-1", 1, FACTS[:2])
    monitor.facts_committed("e-1", 3, FACTS[2:])
    unsubscribe()
    unsubscribe()
    monitor.facts_committed("e-2", 1, FACTS)
    assert [(fact.execution, fact.seq) for fact in seen] == [("e-1", 1), ("e-1", 2), ("e-1", 3)]
    assert seen[0].fact == NodeStarted(at=1, node="a")


def test_a_subscriber_that_raises_harms_nobody() -> None:
    monitor = Monitor()
    seen: list[CommittedFact] = []

    def broken(fact: CommittedFact) -> None:
        raise RuntimeError("no")

    monitor.subscribe(broken)
    monitor.subscribe(seen.append)
    with structlog.testing.capture_logs() as logged:
        monitor.facts_committed("e-1", 1, FACTS)
    assert len(seen) == 3
    assert [(event["event"], event["seq"]) for event in logged] == [("subscriber_failed", seq) for seq in (1, 2, 3)]


def test_the_same_callback_can_subscribe_twice() -> None:
    monitor = Monitor()
    seen: list[CommittedFact] = []
    first = monitor.subscribe(seen.append)
    monitor.subscribe(seen.append)
    first()
    monitor.facts_committed("e-1", 1, FACTS[:1])
    assert len(seen) == 1


def test_a_value_on_a_bound_belongs_to_the_bucket_below_it() -> None:
    histogram = Histogram([1, 10])
    for value in (0.5, 1, 1.5, 10, 11):
        histogram.add(value)
    assert histogram.cumulative() == [("1.0", 2), ("10.0", 4), ("+Inf", 5)]


def test_the_metrics_library_is_only_imported_for_metrics() -> None:
    code = "import sys, orchestrator.monitor.monitor as m; m.Monitor(); print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
