"""The `restricted` Pod Security Standard as code: what is wrong with a pod, in words.

After https://kubernetes.io/docs/concepts/security/pod-security-standards/, both levels, for Linux pods.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from manifests_rendered import Object, containers

__all__ = ["violations"]

VOLUMES: Final = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
)
SYSCTLS: Final = frozenset(
    {
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
    }
)  # fmt: skip
SECCOMP: Final = frozenset({"RuntimeDefault", "Localhost"})
SELINUX: Final = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})


def violations(template: Object) -> list[str]:
    """Everything in a pod that the level `restricted` refuses; empty when it would be let in."""
    return [*_pod(template), *(fault for each in containers(template) for fault in _container(template, each))]


def _pod(template: Object) -> Iterator[str]:
    spec = template["spec"]
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{name} is on"
    for volume in spec.get("volumes", ()):
        for source in set(volume) - {"name"} - VOLUMES:
            yield f"the volume {volume['name']} is a {source}"
    security = spec.get("securityContext", {})
    for sysctl in security.get("sysctls", ()):
        if sysctl["name"] not in SYSCTLS:
            yield f"the sysctl {sysctl['name']} is not safe"
    for name in template.get("metadata", {}).get("annotations", {}):
        if name.startswith("container.apparmor.security.beta.kubernetes.io/"):
            yield f"the annotation {name} sets AppArmor as it was set long ago"
    yield from _confined(security, "the pod")


def _confined(security: dict[str, Any], who: str) -> Iterator[str]:
    """What neither a pod nor a container may loosen."""
    if security.get("runAsUser") == 0:
        yield f"{who} runs as root"
    if security.get("seccompProfile", {}).get("type", "RuntimeDefault") not in SECCOMP:
        yield f"{who} is not confined by seccomp"
    if security.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield f"{who} is not confined by AppArmor"
    selinux = security.get("seLinuxOptions", {})
    if selinux.get("type", "") not in SELINUX or selinux.get("user") or selinux.get("role"):
        yield f"{who} sets SELinux as it may not"
    if security.get("windowsOptions", {}).get("hostProcess"):
        yield f"{who} is a process of the host"


def _container(template: Object, container: Object) -> Iterator[str]:
    pod, own = template["spec"].get("securityContext", {}), container.get("securityContext", {})
    who = f"the container {container['name']}"
    yield from _confined(own, who)
    if not own.get("runAsNonRoot", pod.get("runAsNonRoot", False)):
        yield f"{who} may run as root"
    if own.get("seccompProfile", pod.get("seccompProfile")) is None:
        yield f"{who} has no seccomp profile"
    if own.get("privileged"):
        yield f"{who} is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{who} may gain privileges"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()):
        yield f"{who} keeps capabilities"
    for capability in set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield f"{who} adds the capability {capability}"
    if own.get("procMount", "Default") != "Default":
        yield f"{who} sees /proc unmasked"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield f"{who} takes a port of the host"
    hooks = [container.get("lifecycle", {}).get(when, {}) for when in ("preStop", "postStart")]
    hooks += [container.get(f"{when}Probe", {}) for when in ("startup", "readiness", "liveness")]
    if any(action.get("host") for hook in hooks for action in hook.values() if isinstance(action, dict)):
        yield f"{who} has others probed from the node"
