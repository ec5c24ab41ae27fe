"""What somebody may say about scaling, and what is refused, with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.kubernetes.base import DEPLOYMENTS, STATEFUL_SETS
from orchestrator.scaling.declared import Autoscaling, Workload


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("min=1,max=10,target=8", Autoscaling(min=1, max=10, target=8)),
        (" max=10 , min=0, target=8, cooldown=90 ", Autoscaling(min=0, max=10, target=8, cooldown=90)),
        ("min=1,max=1,target=1,cooldown=1h30m", Autoscaling(min=1, max=1, target=1, cooldown=5_400)),
        ({"min": 1, "max": 10, "target": 8, "cooldown": "5m"}, Autoscaling(min=1, max=10, target=8)),
        ({"min": "1", "max": 10, "target": 8, "cooldown": 0}, Autoscaling(min=1, max=10, target=8, cooldown=0)),
    ],
    ids=["text", "spaces", "duration", "mapping", "mapping of texts"],
)
def test_bounds_are_read(value: object, expected: Autoscaling) -> None:
    assert Autoscaling.read(value) == expected
    assert Autoscaling.read(expected) is expected


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("min=1,max=10", "target missing"),
        ("", "min and max and target missing"),
        ("min=3,max=2,target=1", "min is 3 and max 2"),
        ("min=-1,max=2,target=1", "min is '-1': it has to be a whole number"),
        ("min=1,max=0,target=1", "max is 0: it has to be from 1"),
        ("min=1,max=2,target=0", "target is 0"),
        ("min=1,max=20000,target=1", "10,000"),
        ("min=1,max=2,target=1.5", "target is '1.5'"),
        ("min=1,max=2,target=1,cooldown=soon", "cooldown: expected a duration"),
        ("min=1,max=2,target=1,cooldown=2d", "from 0 to 24h"),
        ("min=1,max=2,target=1,size=3", "size not known here"),
        ("min=1,min=1,max=2,target=1", "min is there twice"),
        ("min=1 max=2 target=1", "whole number|missing"),
        ("min", "'min' is not understood"),
        (True, "expected how engines are scaled"),
        ({"min": True, "max": 2, "target": 1}, "min is True"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Autoscaling.read(value)


def test_workloads_are_read() -> None:
    deployment = Workload.read("deployment/workflow-engine")
    assert deployment == Workload() == Workload(resource=DEPLOYMENTS, name="workflow-engine")
    assert (str(deployment), deployment.ordered) == ("deployment/workflow-engine", False)
    ordered = Workload.read(" StatefulSet/engines.gpu ")
    assert ordered == Workload(resource=STATEFUL_SETS, name="engines.gpu")
    assert (str(ordered), ordered.ordered) == ("statefulset/engines.gpu", True)


@pytest.mark.parametrize(
    "value", ["workflow-engine", "deployment/", "daemonset/a", "deployment/A b", "", None, 3], ids=str
)
def test_other_workloads_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="deployment/NAME or statefulset/NAME"):
        Workload.read(value)
