"""Alerts, the dashboard and what scales engines speak of metrics that the orchestrator has, and are PromQL."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
from manifests_rendered import ROOT, Object, Renderings, environment, find, kinds
from prometheus_client.parser import text_string_to_metric_families

from dagengine.admission.declaration import Declared
from dagengine.app import DAGEngine
from orchestrator.app import Options, Orchestrator
from orchestrator.monitor.counts import Levels, Scaled
from orchestrator.monitor.monitor import Monitor

OF_PROMETHEUS = {"namespace", "pod", "job", "le", "instance"}
"""Labels that Prometheus adds, or that belong to histograms."""
GUIDE = (ROOT / "docs" / "deploying.md").read_text()


@pytest.fixture(scope="module")
def served() -> dict[str, set[str]]:
    """The samples of the product's /metrics, with the labels of each."""

    async def metrics() -> str:
        async with Orchestrator(options=Options(pools={"db": Declared(1)})) as orchestrator:
            orchestrator.monitor.requests["GET", 200] += 1
            return orchestrator.monitor.metrics().decode()

    scaling = Monitor()
    scaling.attach(lambda: Levels(scaling=Scaled(desired=1, replicas=1, draining=0, load=0, frozen=False, changes={})))
    samples: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(asyncio.run(metrics()) + scaling.metrics().decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, set()).update(sample.labels)
    return samples


def selectors(node: Any) -> Iterator[Any]:
    """The vector selectors of an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        if (inner := getattr(node, name, None)) is not None:
            yield from selectors(inner)
    for argument in getattr(node, "args", ()):
        yield from selectors(argument)


def grouped(expression: str) -> set[str]:
    """The labels by which an expression groups."""
    found = re.findall(r"\bby \(([^)]*)\)", expression)
    return {label.strip() for labels in found for label in labels.split(",")}


def expressions(objects: list[Object]) -> Iterator[tuple[str, str]]:
    (rule,) = kinds(objects, "PrometheusRule")
    for group in rule["spec"]["groups"]:
        for alert in group["rules"]:
            yield alert["alert"], alert["expr"]
    for panel in dashboard(objects)["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "5m").replace("$namespace", "workflows")
            yield panel["title"], expression


def dashboard(objects: list[Object]) -> Any:
    return json.loads(find(objects, "ConfigMap", "workflow-dashboard")["data"]["dagengine.json"])


def test_expressions_ask_for_metrics_and_labels_that_there_are(
    renderings: Renderings, served: dict[str, set[str]]
) -> None:
    for title, expression in expressions(renderings.kustomize("minimal-monitoring")):
        asked = list(selectors(promql_parser.parse(expression)))
        assert asked, title
        labels = set(OF_PROMETHEUS)
        for selector in asked:
            assert selector.name in served, f"{title}: there is no metric {selector.name}"
            labels |= served[selector.name]
            matched = {matcher.name for matcher in selector.matchers.matchers}
            assert matched <= served[selector.name] | OF_PROMETHEUS, f"{title}: {selector.name} has other labels"
        assert grouped(expression) - {""} <= labels, title


async def test_values_of_labels_are_those_that_the_product_gives(renderings: Renderings) -> None:
    """Of labels with a fixed set of values: a state that is renamed must not silence an alert."""
    async with Orchestrator() as orchestrator:
        orchestrator.register_engine("engine-1", DAGEngine())
        text = orchestrator.monitor.metrics().decode()
    given: dict[tuple[str, str], set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            for label, value in sample.labels.items():
                given.setdefault((sample.name, label), set()).add(value)
    for title, expression in expressions(renderings.kustomize("minimal-monitoring")):
        for selector in selectors(promql_parser.parse(expression)):
            for matcher in selector.matchers.matchers:
                if matcher.name in {"state", "outcome", "reason"} or (matcher.name, selector.name) == (
                    "status",
                    "dagengine_executions_finished_total",
                ):
                    assert matcher.value in given[selector.name, matcher.name], title


def test_alerts_tell_how_bad_it_is_and_what_to_do(renderings: Renderings) -> None:
    (rule,) = kinds(renderings.kustomize("minimal-monitoring"), "PrometheusRule")
    alerts = [alert for group in rule["spec"]["groups"] for alert in group["rules"]]
    assert len({alert["alert"] for alert in alerts}) == len(alerts)
    for alert in alerts:
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert alert["annotations"].keys() == {"summary", "description"}


def alert(renderings: Renderings, name: str) -> str:
    """The expression of an alert."""
    return dict(expressions(renderings.kustomize("minimal-monitoring")))[name]


def test_facts_that_were_lost_before_the_first_scrape_are_told(renderings: Renderings) -> None:
    """Engines tell within a second of the start: a counter that was never seen at 0 has no increase."""
    expression = alert(renderings, "DagengineFactsLost")
    assert not re.search(r"\b(increase|rate|delta|changes)\b", expression)


def test_having_no_engine_is_no_alarm_where_none_is_wanted(renderings: Renderings) -> None:
    expression = alert(renderings, "DagengineNoEngine")
    assert expression.endswith("unless max by (namespace) (dagengine_autoscaling_desired) == 0")


def test_a_single_execution_that_fails_is_no_alarm(renderings: Renderings) -> None:
    assert "(dagengine_executions_finished_total[30m])) >= 10" in alert(renderings, "DagengineExecutionsFail")


def test_words_of_alerts_use_labels_that_their_expression_keeps(renderings: Renderings) -> None:
    (rule,) = kinds(renderings.kustomize("minimal-monitoring"), "PrometheusRule")
    for alert in (alert for group in rule["spec"]["groups"] for alert in group["rules"]):
        used = set(re.findall(r"\$labels\.(\w+)", " ".join(alert["annotations"].values())))
        kept = grouped(alert["expr"]) or ({} if "absent" in alert["expr"] else OF_PROMETHEUS)
        assert used <= set(kept), alert["alert"]


def test_panels_of_the_dashboard_do_not_lie_on_each_other(renderings: Renderings) -> None:
    taken: set[tuple[int, int]] = set()
    panels = dashboard(renderings.kustomize("minimal-monitoring"))["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_monitor_looks_at_the_service_of_orchestrators(renderings: Renderings) -> None:
    objects = renderings.kustomize("minimal-monitoring")
    (monitor,) = kinds(objects, "ServiceMonitor")
    labels = monitor["spec"]["selector"]["matchLabels"]
    services = [each for each in kinds(objects, "Service") if labels.items() <= each["metadata"]["labels"].items()]
    assert [each["metadata"]["name"] for each in services] == ["workflow-orchestrator"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in services[0]["spec"]["ports"]}
    # The job of what it scrapes is the name of the Service: alerts and panels about processes ask for it.
    asked = {match for _, text in expressions(objects) for match in re.findall(r'job="([^"]*)"', text)}
    assert asked == {"workflow-orchestrator"}


def test_engines_are_scaled_by_a_metric_whose_rule_is_told(renderings: Renderings, served: dict[str, set[str]]) -> None:
    (scaler,) = kinds(renderings.kustomize("ha"), "HorizontalPodAutoscaler")
    (metric,) = scaler["spec"]["metrics"]
    name = metric["external"]["metric"]["name"]
    rule = GUIDE.partition("as: " + name)[2].partition("```")[0]
    query = re.search(r"metricsQuery: (.*)", rule)
    assert query is not None, f"docs/deploying.md does not tell how to serve {name}"
    expression = query[1].replace("<<.LabelMatchers>>", 'namespace="workflows"')
    asked = [selector.name for selector in selectors(promql_parser.parse(expression))]
    assert set(asked) == {"dagengine_executions_queued", "dagengine_executions_running"}
    assert set(asked) <= served.keys()


def test_an_engine_is_added_before_all_are_full(renderings: Renderings) -> None:
    objects = renderings.kustomize("ha")
    (scaler,) = kinds(objects, "HorizontalPodAutoscaler")
    target = int(scaler["spec"]["metrics"][0]["external"]["target"]["averageValue"])
    pod = find(objects, "Deployment", "workflow-engine")["spec"]["template"]
    assert target < int(environment(pod, pod["spec"]["containers"][0], {})["CAPACITY"])
    orchestrator = find(renderings.kustomize("ha-autoscaling"), "Deployment", "workflow-orchestrator")
    made = {
        each["name"]: each.get("value") for each in orchestrator["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    low, high = scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]
    cooldown = scaler["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"]
    assert made["ENGINE_AUTOSCALING"] == f"min={low},max={high},target={target},cooldown={cooldown}"
