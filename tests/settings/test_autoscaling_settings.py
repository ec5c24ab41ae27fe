"""Settings of autoscaling: where they come from, what is refused, and what an orchestrator makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dagengine.errors import SettingsError
from orchestrator import settings
from orchestrator.app import Options, Orchestrator
from orchestrator.cli import serving
from orchestrator.options import Kubernetes
from orchestrator.scaling.declared import Autoscaling, Workload


def test_without_a_word_nothing_is_scaled() -> None:
    loaded = settings.load()
    assert (loaded.engine_autoscaling, str(loaded.engine_workload)) == (None, "deployment/workflow-engine")


def test_it_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_DISCOVERY", "pods")
    monkeypatch.setenv("ENGINE_AUTOSCALING", "min=0,max=10,target=8,cooldown=10m")
    monkeypatch.setenv("ENGINE_WORKLOAD", "statefulset/engines")
    loaded = settings.load()
    assert loaded.engine_autoscaling == Autoscaling(min=0, max=10, target=8, cooldown=600)
    assert str(loaded.engine_workload) == "statefulset/engines"
    kubernetes = serving.orchestrator(loaded).options.kubernetes
    assert kubernetes is not None
    assert (kubernetes.autoscaling, kubernetes.workload) == (loaded.engine_autoscaling, loaded.engine_workload)


def test_it_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "orchestrator.yaml"
    path.write_text("engine_discovery: pods\nengine_autoscaling: {min: 1, max: 3, target: 8, cooldown: 30s}\n")
    assert settings.load(config=path).engine_autoscaling == Autoscaling(min=1, max=3, target=8, cooldown=30)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("engine_autoscaling", "min=5,max=3,target=8", "min must not be greater than max"),
        ("engine_autoscaling", "1..10", "write min=1,max=10,target=8"),
        ("engine_workload", "workflow-engine", "deployment/NAME or statefulset/NAME"),
    ],
    ids=["bounds", "form", "workload"],
)
def test_what_makes_no_sense_keeps_the_server_from_starting(name: str, value: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words) as caught:
        settings.load({"engine_discovery": "pods", name: value})
    assert name.upper() in str(caught.value) or name in str(caught.value)


@pytest.mark.parametrize("discovery", ["static", "endpointslices", "dns"])
def test_engines_that_are_not_found_as_pods_cannot_be_scaled(discovery: str) -> None:
    with pytest.raises(SettingsError, match=f"ENGINE_DISCOVERY={discovery} does not see: set ENGINE_DISCOVERY=pods"):
        settings.load({"engine_discovery": discovery, "engine_autoscaling": "min=1,max=3,target=8"})


def test_programs_cannot_either() -> None:
    options = Options(
        kubernetes=Kubernetes(
            discovery="endpointslices", autoscaling=Autoscaling(min=1, max=2, target=8), workload=Workload()
        )
    )
    with pytest.raises(SettingsError, match="found as pods"):
        Orchestrator(options=options)
