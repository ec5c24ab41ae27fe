"""Every pod would be let into a namespace that enforces `restricted`, and the namespace does enforce it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from manifests_pod_security import violations
from manifests_rendered import NAMESPACE, Object, Renderings, containers, find, kinds, pods


def test_every_pod_is_restricted(objects: list[Object]) -> None:
    for _, template in pods(objects):
        assert violations(template) == []


def security(template: Object) -> Any:
    return template["spec"]["containers"][0]["securityContext"]


LOOSENED: dict[str, tuple[Callable[[Object], Any], str]] = {
    "root": (lambda pod: pod["spec"]["securityContext"].update(runAsUser=0), "the pod runs as root"),
    "maybe root": (lambda pod: pod["spec"]["securityContext"].pop("runAsNonRoot"), "may run as root"),
    "no seccomp": (lambda pod: pod["spec"]["securityContext"].pop("seccompProfile"), "has no seccomp profile"),
    "unconfined": (lambda pod: security(pod).update(seccompProfile={"type": "Unconfined"}), "not confined by seccomp"),
    "privileged": (lambda pod: security(pod).update(privileged=True), "is privileged"),
    "escalation": (lambda pod: security(pod).pop("allowPrivilegeEscalation"), "may gain privileges"),
    "capabilities": (lambda pod: security(pod).pop("capabilities"), "keeps capabilities"),
    "more": (lambda pod: security(pod)["capabilities"].update(add=["NET_ADMIN"]), "adds the capability NET_ADMIN"),
    "host path": (lambda pod: pod["spec"]["volumes"].append({"name": "h", "hostPath": {"path": "/"}}), "is a hostPath"),
    "host network": (lambda pod: pod["spec"].update(hostNetwork=True), "hostNetwork is on"),
    "host port": (lambda pod: pod["spec"]["containers"][0]["ports"][0].update(hostPort=80), "takes a port of the host"),
    "sysctl": (lambda pod: pod["spec"]["securityContext"].update(sysctls=[{"name": "kernel.msgmax"}]), "is not safe"),
    "proc": (lambda pod: security(pod).update(procMount="Unmasked"), "sees /proc unmasked"),
    "selinux": (lambda pod: security(pod).update(seLinuxOptions={"type": "spc_t"}), "sets SELinux"),
    "apparmor": (lambda pod: security(pod).update(appArmorProfile={"type": "Unconfined"}), "not confined by AppArmor"),
}


@pytest.mark.parametrize("what", sorted(LOOSENED))
def test_what_restricted_refuses_is_found(what: str, renderings: Renderings) -> None:
    loosen, expected = LOOSENED[what]
    template = copy.deepcopy(find(renderings.kustomize("minimal"), "Deployment", "workflow-engine")["spec"]["template"])
    loosen(template)
    assert any(expected in fault for fault in violations(template)), violations(template)


def test_nothing_is_written_to_the_image(objects: list[Object]) -> None:
    for _, template in pods(objects):
        for container in containers(template):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
        for volume in template["spec"].get("volumes", ()):
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], f"{volume['name']} could fill the node's disk"


def on_openshift(objects: list[Object]) -> bool:
    """Whether users and groups are left to the cluster; its name servers are reached then where they listen."""
    policy = find(objects, "NetworkPolicy", "workflow-token")
    return any(port["port"] == 5353 for rule in policy["spec"]["egress"] for port in rule["ports"])


def test_everybody_has_one_user_and_no_root(objects: list[Object]) -> None:
    for _, template in pods(objects):
        context = template["spec"]["securityContext"]
        if on_openshift(objects):
            assert not context.keys() & {"runAsUser", "runAsGroup", "fsGroup"}
        else:
            assert (context["runAsUser"], context["runAsGroup"]) == (65532, 65532)


def test_only_who_asks_the_api_has_a_token_for_it(objects: list[Object]) -> None:
    bound = {subject["name"] for binding in kinds(objects, "RoleBinding") for subject in binding["subjects"]}
    for account in kinds(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    for item, template in pods(objects):
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is (spec["serviceAccountName"] in bound), item["metadata"]["name"]
        assert spec["enableServiceLinks"] is False


def test_every_container_says_what_it_needs_and_may_use(objects: list[Object]) -> None:
    for _, template in pods(objects):
        for container in containers(template):
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys()
            assert {"cpu", "memory"} <= resources["limits"].keys()


def test_the_namespace_takes_restricted_pods_only(renderings: Renderings) -> None:
    labels = find(renderings.kustomize("minimal"), "Namespace", NAMESPACE)["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"


def test_tokens_are_readable_by_their_pod_alone(objects: list[Object]) -> None:
    for _, template in pods(objects):
        for volume in template["spec"].get("volumes", ()):
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440
                assert template["spec"]["securityContext"].get("fsGroup") == (None if on_openshift(objects) else 65532)
