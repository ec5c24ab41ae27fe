"""How engines are to be found, and what there is of a cluster: names and defaults are what people know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dagengine.errors import SettingsError
from orchestrator import settings
from orchestrator.cli import serving
from orchestrator.kubernetes.access import InPod, Kubeconfig

IN_POD = ("KUBERNETES_SERVICE_HOST", "10.96.0.1")


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the tests run in, it is no cluster."""
    for name in ("KUBERNETES_SERVICE_HOST", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_names_and_defaults() -> None:
    fields = settings.OrchestratorSettings.model_fields
    assert {name.upper(): fields[name].default for name in fields if name.startswith("k8s_")} == {
        "K8S_NAMESPACE": "default",
        "K8S_LABEL_SELECTOR": "app=workflow-engine",
        "K8S_SERVICE_NAME": "workflow-engines",
        "K8S_CONTEXT": "",
        "K8S_WORKFLOWS": True,
    }
    loaded = settings.load()
    assert (loaded.in_cluster_config, loaded.kubeconfig, loaded.transport_type) == (True, "", "grpc")
    assert (loaded.grpc_port, loaded.engine_discovery_interval, loaded.engine_health_check_interval) == (50051, 30, 10)
    assert (loaded.engine_discovery, loaded.discovery) == ("auto", "static")


def test_in_a_pod_engines_are_pods_unless_somebody_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*IN_POD)
    assert settings.load().discovery == "pods"
    assert settings.load({"engines": "engine-1:50051"}).discovery == "static"
    assert settings.load({"in_cluster_config": False}).discovery == "static"
    assert settings.load({"engine_discovery": "dns"}).discovery == "dns"


def test_the_namespace_is_the_clusters_business_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load().namespace == ""
    monkeypatch.setenv("K8S_NAMESPACE", "default")
    assert settings.load().namespace == "default"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("engine_discovery", "consul"),
        ("transport_type", "carrier-pigeon"),
        ("k8s_namespace", "Not_A_Name"),
        ("k8s_service_name", "no name"),
        ("grpc_port", 0),
        ("engine_discovery_interval", "0s"),
    ],
    ids=lambda value: str(value),
)
def test_what_makes_no_sense_is_refused(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=name):
        settings.load({name: value})


def test_a_context_without_a_kubeconfig_is_refused() -> None:
    with pytest.raises(SettingsError, match="IN_CLUSTER_CONFIG"):
        settings.load({"k8s_context": "staging"})


def test_without_a_cluster_nothing_of_one_is_used() -> None:
    options = serving.orchestrator(settings.load({"database_url": "sqlite://"})).options
    assert (options.kubernetes, options.dns) == (None, "")


def test_settings_become_what_is_done_in_a_cluster() -> None:
    given = {
        "database_url": "sqlite://",
        "engine_discovery": "endpointslices",
        "in_cluster_config": False,
        "kubeconfig": "/a:/b",
        "k8s_context": "staging",
        "k8s_namespace": "work",
        "k8s_service_name": "engines",
        "k8s_label_selector": "app=e",
        "engine_discovery_interval": "5s",
        "engine_health_check_interval": "0",
        "grpc_port": 6000,
    }
    options = serving.orchestrator(settings.load(given)).options
    assert (options.discovery_interval, options.health_check_interval, options.grpc_port) == (5, 0, 6000)
    kubernetes = options.kubernetes
    assert kubernetes is not None
    assert kubernetes.access == Kubeconfig(paths="/a:/b", context="staging")
    assert (kubernetes.discovery, kubernetes.namespace) == ("endpointslices", "work")
    assert (kubernetes.service_name, kubernetes.label_selector) == ("engines", "app=e")


def test_in_a_pod_the_service_account_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*IN_POD)
    kubernetes = serving.orchestrator(settings.load({"database_url": "sqlite://"})).options.kubernetes
    assert kubernetes is not None
    assert isinstance(kubernetes.access, InPod)
    assert kubernetes.access.directory == Path("/var/run/secrets/kubernetes.io/serviceaccount")


def test_dns_asks_for_the_service_at_the_port_of_engines() -> None:
    given = {"database_url": "sqlite://", "engine_discovery": "dns", "k8s_service_name": "engines.work.svc"}
    options = serving.orchestrator(settings.load(given)).options
    assert options.dns == "engines.work.svc:50051"
    assert options.kubernetes is None
