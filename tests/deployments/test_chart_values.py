"""The chart refuses values that cannot work, and what is set arrives where it belongs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests_pod_security import violations
from manifests_rendered import CHART, Object, containers, environment, find, kinds, pods

from dagengine.settings import EngineSettings
from orchestrator.settings import OrchestratorSettings

SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def run(helm: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [str(helm), "template", "dagengine", str(CHART), "--namespace", "workflows", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def rendered(helm: Path, *flags: str) -> list[Object]:
    ran = run(helm, *flags)
    assert ran.returncode == 0, ran.stderr
    return [document for document in yaml.safe_load_all(ran.stdout) if document]


WRONG = {
    "a name that does not exist": ["engines.replicas=2"],
    "a name within that does not exist": ["engine.replica=2"],
    "a number that is a word": ["engine.replicas=many"],
    "no capacity": ["engine.capacity=0"],
    "a port that needs rights": ["engine.port=80"],
    "a database that is not supported": ["database.kind=mysql"],
    "two orchestrators over a file": ["orchestrator.replicas=2"],
    "availability over a file": ["highAvailability=true"],
    "a variable that the chart sets": ["engine.env.CAPACITY=3"],
    "a token in the open": ["orchestrator.env.DAGENGINE_TOKEN=secret"],
    "a variable in small letters": ["engine.env.log_level=debug"],
    "a variable that is no text": ["engine.env.ENGINE_BUFFER=64"],
    "a memory that is no quantity": ["engine.resources.limits.memory=2GB"],
    "a size that is no quantity": ["database.sqlite.size=ten"],
    "a Secret that cannot be": ["token.secret=My_Secret"],
    "scaling that does not exist": ["autoscaling.kind=keda"],
    "more at least than at most": ["autoscaling.min=20"],
    "nothing at all under an autoscaler": ["autoscaling.kind=hpa", "autoscaling.min=0"],
    "scaling without pods to annotate": ["discovery=endpointslices", "autoscaling.kind=builtin"],
    "an image with its tag in the name": ["images.engine.name=Engine!"],
    "a host that is a URL": ["orchestrator.allowedHosts={https://example.org}"],
}


@pytest.mark.parametrize("what", sorted(WRONG))
def test_values_that_cannot_work_are_refused(what: str, helm: Path) -> None:
    refused = run(helm, *(f"--set={value}" for value in WRONG[what]))
    assert refused.returncode != 0
    assert "values don't meet the specifications" in refused.stderr or "autoscaling.min" in refused.stderr


def defaults(schema: Any, values: Any, path: str = "") -> list[str]:
    """Values without a schema, and schemas without a value."""
    if not isinstance(values, dict) or "properties" not in (schema := resolved(schema)):
        return []
    odd = [f"{path}{name}" for name in schema["properties"].keys() ^ values.keys() if name != "global"]
    shared = schema["properties"].keys() & values.keys()
    return odd + [
        each for name in shared for each in defaults(schema["properties"][name], values[name], f"{path}{name}.")
    ]


def resolved(schema: Any) -> Any:
    reference = schema.get("$ref", "")
    return SCHEMA["$defs"][reference.rpartition("/")[2]] if reference else schema


def test_every_value_has_a_schema_and_a_default() -> None:
    assert defaults(SCHEMA, yaml.safe_load((CHART / "values.yaml").read_text())) == []


@pytest.mark.parametrize(
    ("part", "settings"),
    [("engine", EngineSettings), ("orchestrator", OrchestratorSettings)],
    ids=["engine", "orchestrator"],
)
def test_variables_that_the_chart_sets_cannot_be_set_twice(part: str, settings: type[Any], helm: Path) -> None:
    owned = set(SCHEMA["properties"][part]["properties"]["env"]["propertyNames"]["not"]["enum"])
    made: set[str] = set()
    for flags in ((), ("--values", str(CHART / "values-ha.yaml"), "--set=autoscaling.kind=builtin"),
                  ("--set=discovery=endpointslices",)):  # fmt: skip
        template = find(rendered(helm, *flags), "Deployment", f"workflow-{part}")["spec"]["template"]
        made |= {variable["name"] for each in containers(template) for variable in each["env"]}
    assert owned == made | {"DAGENGINE_TOKEN"}
    assert owned <= {name.upper() for name in settings.model_fields}


def test_what_is_set_arrives(helm: Path) -> None:
    objects = rendered(
        helm,
        "--set=engine.port=6000,engine.capacity=40,engine.workers=4,engine.drainTimeout=600,engine.spool=4096",
        "--set-string=engine.env.ENGINE_LABELS=pool=gpu,orchestrator.env.MAX_QUEUED=50000",
        "--set-json=engine.tolerations=[{\"key\":\"gpu\",\"operator\":\"Exists\"}]",
        "--set=engine.nodeSelector.gpu=yes,images.pullSecrets={registry},database.sqlite.storageClassName=fast",
        "--set=orchestrator.allowedHosts={dag.example.org},token.secret=shared,token.create=false",
        "--set-json=engine.egress=[{\"to\":[{\"ipBlock\":{\"cidr\":\"10.1.0.0/16\"}}]}]",
    )  # fmt: skip
    pod = find(objects, "Deployment", "workflow-engine")["spec"]["template"]
    made = environment(pod, pod["spec"]["containers"][0], {})
    assert (made["PORT"], made["CAPACITY"], made["ENGINE_LABELS"]) == ("6000", "40", "pool=gpu")
    assert pod["spec"]["containers"][0]["readinessProbe"]["grpc"]["port"] == 6000
    assert pod["spec"]["terminationGracePeriodSeconds"] == 615
    assert {"name": "spool", "emptyDir": {"sizeLimit": "4352Mi"}} in pod["spec"]["volumes"]
    assert pod["spec"]["nodeSelector"] == {"gpu": "yes"}
    assert pod["spec"]["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert find(objects, "PersistentVolumeClaim", "workflow-orchestrator")["spec"]["storageClassName"] == "fast"
    pod = find(objects, "Deployment", "workflow-orchestrator")["spec"]["template"]
    made = environment(pod, pod["spec"]["containers"][0], {})
    assert made["MAX_QUEUED"] == "50000"
    assert made["ALLOWED_HOSTS"].endswith(",dag.example.org")
    assert "shared" in {each.get("secret", {}).get("secretName") for each in pod["spec"]["volumes"]}
    assert kinds(objects, "Job") == []
    policy = find(objects, "NetworkPolicy", "workflow-engine")["spec"]
    assert policy["ingress"][0]["ports"][0]["port"] == 6000
    assert {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}]} in policy["egress"]
    assert [fault for _, template in pods(objects) for fault in violations(template)] == []


def test_policies_can_be_left_to_others(helm: Path) -> None:
    assert kinds(rendered(helm, "--set=networkPolicies=false"), "NetworkPolicy") == []
