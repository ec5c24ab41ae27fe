"""What belongs together fits together: names, ports, selectors, paths, times, sizes, and the product's own settings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from manifests_rendered import FLAVOURS, NAMESPACE, Object, Renderings, containers, environment, find, kinds, pods
from pydantic import SecretStr

from dagengine.app import DAGEngine
from dagengine.server.host import Host
from dagengine.server.service import STOP_SECONDS, EngineServer
from dagengine.settings import EngineSettings
from dagengine.settings import load as load_engine
from orchestrator.app import Options, Orchestrator
from orchestrator.settings import OrchestratorSettings
from orchestrator.settings import load as load_orchestrator

ENGINE, ORCHESTRATOR = "workflow-engine", "workflow-orchestrator"
TOKEN = "0123456789abcdef0123456789abcdef"
DATABASE = "postgresql://dag:secret@db.example.org/dag"
SECRETS = {("workflow-database", "url"): DATABASE}
KINDS: dict[str, type[Any]] = {ENGINE: EngineSettings, ORCHESTRATOR: OrchestratorSettings}


def selected(objects: list[Object], selector: dict[str, str]) -> list[Object]:
    """The workloads whose pods a selector of labels selects."""
    return [
        item for item, template in pods(objects) if selector.items() <= template["metadata"].get("labels", {}).items()
    ]


def names(items: list[Object]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def template(objects: list[Object], name: str) -> Object:
    found: Object = find(objects, "Deployment", name)["spec"]["template"]
    return found


def container(objects: list[Object], name: str) -> Object:
    (only,) = template(objects, name)["spec"]["containers"]
    return dict(only)


def probes(item: Object) -> Iterator[tuple[str, Object]]:
    for kind in ("startup", "readiness", "liveness"):
        yield kind, item[f"{kind}Probe"]


# --- selectors and ports ---


def test_deployments_select_their_own_pods_and_no_others(objects: list[Object]) -> None:
    for item in kinds(objects, "Deployment"):
        assert names(selected(objects, item["spec"]["selector"]["matchLabels"])) == [item["metadata"]["name"]]


def test_services_and_budgets_and_policies_select_whom_they_are_for(objects: list[Object]) -> None:
    assert names(selected(objects, find(objects, "Service", "workflow-engines")["spec"]["selector"])) == [ENGINE]
    assert names(selected(objects, find(objects, "Service", ORCHESTRATOR)["spec"]["selector"])) == [ORCHESTRATOR]
    for budget in kinds(objects, "PodDisruptionBudget"):
        assert names(selected(objects, budget["spec"]["selector"]["matchLabels"])) == [budget["metadata"]["name"]]
    for _, pod in pods(objects):
        for constraint in pod["spec"].get("topologySpreadConstraints", ()):
            labels = constraint["labelSelector"]["matchLabels"]
            assert [each["spec"]["template"] for each in selected(objects, labels)] == [pod]


def test_ports_of_services_are_ports_of_containers_and_of_probes(objects: list[Object]) -> None:
    for service in kinds(objects, "Service"):
        (workload,) = selected(objects, service["spec"]["selector"])
        taken = container(objects, workload["metadata"]["name"])
        ports = {port["name"]: port["containerPort"] for port in taken["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
        for _, probe in probes(taken):
            asked = probe["httpGet"]["port"] if "httpGet" in probe else probe["grpc"]["port"]
            assert asked in {*ports, *ports.values()}


def test_the_service_of_engines_is_headless(objects: list[Object]) -> None:
    assert find(objects, "Service", "workflow-engines")["spec"]["clusterIP"] == "None"


def test_the_annotations_of_engines_are_their_port_and_capacity(objects: list[Object]) -> None:
    pod = template(objects, ENGINE)
    made = environment(pod, container(objects, ENGINE), SECRETS)
    annotations = pod["metadata"]["annotations"]
    assert made["PORT"] == annotations["workflow-engine/port"]
    assert made["CAPACITY"] == annotations["workflow-engine/capacity"]
    assert int(made["PORT"]) == container(objects, ENGINE)["ports"][0]["containerPort"]


# --- network policies ---


def policies(objects: list[Object], name: str) -> list[Object]:
    """Those that hold for the pods of a workload."""
    labels = next(pod["metadata"]["labels"] for item, pod in pods(objects) if item["metadata"]["name"] == name)
    return [
        policy["spec"]
        for policy in kinds(objects, "NetworkPolicy")
        if policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    ]


def test_every_pod_is_reached_and_reaches_only_as_is_said(objects: list[Object]) -> None:
    for item, _ in pods(objects):
        held = policies(objects, item["metadata"]["name"])
        assert {kind for policy in held for kind in policy["policyTypes"]} == {"Ingress", "Egress"}
        for policy in held:
            assert all(policy.get("ingress", [{"ports": []}])), "an empty rule lets everything in"
            assert all(policy.get("egress", [{"to": []}])), "an empty rule lets everything out"


def test_engines_are_reached_by_orchestrators_alone(objects: list[Object]) -> None:
    rules = [rule for policy in policies(objects, ENGINE) for rule in policy.get("ingress", ())]
    (rule,) = rules
    (peer,) = rule["from"]
    assert names(selected(objects, peer["podSelector"]["matchLabels"])) == [ORCHESTRATOR] or not kinds_of(
        objects, ORCHESTRATOR
    )
    assert rule["ports"] == [{"protocol": "TCP", "port": container(objects, ENGINE)["ports"][0]["containerPort"]}]


def kinds_of(objects: list[Object], name: str) -> list[Object]:
    return [item for item, _ in pods(objects) if item["metadata"]["name"] == name]


def test_orchestrators_reach_engines_and_are_reached_at_their_port(objects: list[Object]) -> None:
    held = policies(objects, ORCHESTRATOR)
    ingress = [rule for policy in held for rule in policy.get("ingress", ())]
    egress = [rule for policy in held for rule in policy.get("egress", ())]
    assert ingress == [{"ports": [{"protocol": "TCP", "port": 8080}]}]
    to_engines = [rule for rule in egress for peer in rule.get("to", ()) if "podSelector" in peer]
    (rule,) = to_engines
    assert names(selected(objects, rule["to"][0]["podSelector"]["matchLabels"])) == [ENGINE]
    assert rule["ports"][0]["port"] == container(objects, ENGINE)["ports"][0]["containerPort"]


def test_the_database_is_reached_where_there_is_one(renderings: Renderings) -> None:
    for flavour in FLAVOURS:
        objects = renderings.kustomize(flavour)
        ports = {
            port["port"]
            for policy in policies(objects, ORCHESTRATOR)
            for rule in policy.get("egress", ())
            for port in rule.get("ports", ())
        }
        assert (5432 in ports) is (environment_of(objects, ORCHESTRATOR)["DATABASE_URL"] == DATABASE), flavour


def test_engines_reach_no_private_address_and_no_metadata_of_a_cloud(objects: list[Object]) -> None:
    blocks = [
        peer["ipBlock"]
        for policy in policies(objects, ENGINE)
        for rule in policy.get("egress", ())
        for peer in rule.get("to", ())
    ]
    assert [block["cidr"] for block in blocks] == ["0.0.0.0/0", "2000::/3"]
    for private in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "100.64.0.0/10"):
        assert private in blocks[0]["except"]


# --- the environment ---


def environment_of(objects: list[Object], name: str) -> dict[str, str]:
    return environment(template(objects, name), container(objects, name), SECRETS)


@pytest.mark.parametrize("name", [ENGINE, ORCHESTRATOR])
def test_variables_are_settings_of_the_product(name: str, objects: list[Object]) -> None:
    known = {field.upper() for field in KINDS[name].model_fields}
    assert environment_of(objects, name).keys() - known == set()


@pytest.mark.parametrize("name", [ENGINE, ORCHESTRATOR])
def test_the_product_takes_the_values(
    name: str, objects: list[Object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = mounted(template(objects, name), environment_of(objects, name), tmp_path)
    for variable in KINDS[name].model_fields:
        monkeypatch.delenv(variable.upper(), raising=False)
    for variable, value in made.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    settings: Any = load_engine() if name == ENGINE else load_orchestrator()
    token = settings.token()
    assert token is not None
    assert token.get_secret_value() == TOKEN
    assert settings.host in {"0.0.0.0", "::"}
    assert settings.model_fields_set == {variable.lower() for variable in made}


def mounted(pod: Object, made: dict[str, str], folder: Path) -> dict[str, str]:
    """The environment with a folder of this machine in place of each volume, the token's being filled."""
    mounts = pod["spec"]["containers"][0]["volumeMounts"]
    for mount in mounts:
        (folder / mount["name"]).mkdir()
    (folder / "token" / "token").write_text(TOKEN)
    here = {f"{scheme}{mount['mountPath']}": f"{scheme}{folder / mount['name']}" for mount in mounts for scheme in
            ("", "sqlite:///")}  # fmt: skip
    moved = dict(made)
    for name, value in made.items():
        for there, place in here.items():
            if value.startswith(there):
                moved[name] = place + value.removeprefix(there)
    return moved


def test_paths_are_on_volumes_that_can_be_written_where_they_are(objects: list[Object]) -> None:
    for name, variables in ((ENGINE, {"ENGINE_SPOOL_DIR": "emptyDir"}), (ORCHESTRATOR, {"DATABASE_URL": None})):
        pod, made = template(objects, name), environment_of(objects, name)
        for variable, kind in variables.items():
            path = made[variable].removeprefix("sqlite:///")
            if not path.startswith("/"):
                continue  # a database elsewhere
            (mount,) = [
                each for each in pod["spec"]["containers"][0]["volumeMounts"] if path.startswith(each["mountPath"])
            ]
            (volume,) = [each for each in pod["spec"]["volumes"] if each["name"] == mount["name"]]
            assert not mount.get("readOnly")
            assert (kind or "persistentVolumeClaim") in volume


def test_the_selector_of_discovery_selects_engines(objects: list[Object]) -> None:
    made = environment_of(objects, ORCHESTRATOR)
    label, _, value = made["K8S_LABEL_SELECTOR"].partition("=")
    assert names(selected(objects, {label: value})) == [ENGINE]
    if made["ENGINE_DISCOVERY"] == "endpointslices":
        service = find(objects, "Service", made["K8S_SERVICE_NAME"])
        assert names(selected(objects, service["spec"]["selector"])) == [ENGINE]


def test_the_orchestrator_answers_for_the_names_of_its_service(objects: list[Object]) -> None:
    allowed = environment_of(objects, ORCHESTRATOR)["ALLOWED_HOSTS"].split(",")
    service = find(objects, "Service", ORCHESTRATOR)["metadata"]["name"]
    suffixes = ("", f".{NAMESPACE}", f".{NAMESPACE}.svc", f".{NAMESPACE}.svc.cluster.local")
    assert allowed == [service + suffix for suffix in suffixes]


def test_one_file_database_has_one_orchestrator(renderings: Renderings) -> None:
    for flavour in FLAVOURS:
        objects = renderings.kustomize(flavour)
        spec = find(objects, "Deployment", ORCHESTRATOR)["spec"]
        if environment_of(objects, ORCHESTRATOR)["DATABASE_URL"].startswith("sqlite"):
            assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
        else:
            assert spec["replicas"] > 1
            assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_what_scales_engines_is_one_thing_and_nobody_resets_it(renderings: Renderings) -> None:
    for flavour in FLAVOURS:
        objects = renderings.kustomize(flavour)
        scaled = bool(kinds(objects, "HorizontalPodAutoscaler"))
        built_in = "ENGINE_AUTOSCALING" in environment_of(objects, ORCHESTRATOR)
        assert not (scaled and built_in), flavour
        assert ("replicas" in find(objects, "Deployment", ENGINE)["spec"]) is not (scaled or built_in), flavour


def test_the_workload_that_is_scaled_is_there(renderings: Renderings) -> None:
    objects = renderings.kustomize("minimal-autoscaling")
    kind, _, name = environment_of(objects, ORCHESTRATOR)["ENGINE_WORKLOAD"].partition("/")
    (role,) = [each for each in kinds(objects, "Role") if each["metadata"]["name"].endswith("autoscaling")]
    assert find(objects, "Deployment", name)
    assert role["rules"][0]["resources"] == [f"{kind}s/scale"]
    assert role["rules"][0]["resourceNames"] == [name]


def test_the_lease_is_the_one_that_may_be_changed(renderings: Renderings) -> None:
    objects = renderings.kustomize("ha")
    rules = find(objects, "Role", "workflow-orchestrator-election")["rules"]
    named = [name for rule in rules for name in rule.get("resourceNames", ())]
    assert named == [environment_of(objects, ORCHESTRATOR)["LEADER_ELECTION_LEASE"]]


def test_the_job_makes_the_secret_that_pods_wait_for(objects: list[Object]) -> None:
    (only,) = containers(find(objects, "Job", "workflow-token")["spec"]["template"])
    assert [*only["command"], *only["args"]] == ["dagctl", "token", "--secret", "workflow-token"]
    for name in (ENGINE, ORCHESTRATOR):
        pod = template(objects, name)
        (volume,) = [each["secret"] for each in pod["spec"]["volumes"] if each["name"] == "token"]
        assert volume["secretName"] == only["args"][-1]
        assert [item["key"] for item in volume["items"]] == ["token"]


# --- times and sizes ---


def test_engines_have_the_time_to_drain(objects: list[Object]) -> None:
    made = environment_of(objects, ENGINE)
    needed = float(made["DRAIN_TIMEOUT"]) + EngineSettings().engine_shell_grace + STOP_SECONDS
    assert template(objects, ENGINE)["spec"]["terminationGracePeriodSeconds"] >= needed + 5


def test_orchestrators_have_the_time_to_hand_over(objects: list[Object]) -> None:
    spec = template(objects, ORCHESTRATOR)["spec"]
    sleeps = container(objects, ORCHESTRATOR)["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed = sleeps + float(environment_of(objects, ORCHESTRATOR)["SHUTDOWN_TIMEOUT"])
    assert spec["terminationGracePeriodSeconds"] >= needed + 10


def test_liveness_waits_much_longer_than_readiness(objects: list[Object]) -> None:
    for name in (ENGINE, ORCHESTRATOR):
        found = dict(probes(container(objects, name)))
        patience = {kind: probe["periodSeconds"] * probe["failureThreshold"] for kind, probe in found.items()}
        assert patience["liveness"] >= 60
        assert patience["readiness"] <= 15
        assert patience["startup"] >= 120


def mebibytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([MG]i)", quantity).groups()  # type: ignore[union-attr]  # a wrong one fails
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


def test_the_limits_hold_what_the_settings_allow(objects: list[Object]) -> None:
    made, limits = environment_of(objects, ENGINE), container(objects, ENGINE)["resources"]["limits"]
    settings = EngineSettings()
    assert float(limits["cpu"]) == float(made["LUA_WORKERS"]) == float(made["ENGINE_PYTHON_WORKERS"])
    assert int(made["LUA_WORKERS"]) * settings.lua_memory + settings.engine_buffer + 512 <= mebibytes(limits["memory"])
    sizes = {
        volume["name"]: mebibytes(volume["emptyDir"]["sizeLimit"])
        for volume in template(objects, ENGINE)["spec"]["volumes"]
        if "emptyDir" in volume
    }
    assert int(made["ENGINE_SPOOL"]) < sizes["spool"]
    assert settings.engine_shell_output < sizes["tmp"]
    assert sum(sizes.values()) < mebibytes(limits["ephemeral-storage"])


# --- probes ---


async def test_orchestrators_answer_where_they_are_probed(renderings: Renderings) -> None:
    paths = {kind: probe["httpGet"]["path"] for kind, probe in probes(container(renderings.plain(), ORCHESTRATOR))}
    (monitor,) = kinds(renderings.kustomize("minimal-monitoring"), "ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    async with (
        Orchestrator(options=Options(token=SecretStr(TOKEN))) as orchestrator,
        orchestrator.serving() as served,
        httpx.AsyncClient(base_url=served.url) as client,
    ):
        assert (await client.get(paths["startup"])).status_code == 200
        assert (await client.get(paths["liveness"])).status_code == 200
        assert (await client.get(paths["readiness"])).json() == {"ready": True, "reasons": []}
        assert (await client.get("/readyz")).status_code == 503, "a probe of this would refuse starts without engines"
        assert (await client.get(endpoint["path"])).status_code == 401
        scheme = endpoint["authorization"]["type"]
        told = await client.get(endpoint["path"], headers={"Authorization": f"{scheme} {TOKEN}"})
        assert told.status_code == 200


async def test_an_engine_that_drains_is_unready_and_lives(renderings: Renderings) -> None:
    asked = {kind: probe["grpc"].get("service", "") for kind, probe in probes(container(renderings.plain(), ENGINE))}
    engine = DAGEngine()
    server = EngineServer(Host(engine, engine_id="e", version="0"))
    await server.start()
    try:
        await server.unready()
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            told = {
                kind: (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status
                == health_pb2.HealthCheckResponse.SERVING
                for kind, service in asked.items()
            }
        assert told == {"startup": True, "readiness": False, "liveness": True}
    finally:
        await server.stop()
        await engine.close()


async def test_engines_answer_what_they_are_probed_for(renderings: Renderings) -> None:
    asked = {kind: probe["grpc"].get("service", "") for kind, probe in probes(container(renderings.plain(), ENGINE))}
    engine = DAGEngine()
    server = EngineServer(Host(engine, engine_id="e", version="0"))
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            for service in set(asked.values()):
                answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
    finally:
        await server.stop()
        await engine.close()
