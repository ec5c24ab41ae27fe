"""What `dagctl token` does: a random token, on standard output or in a Secret of Kubernetes."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import secrets
from typing import Final

from orchestrator.cli import printing
from orchestrator.errors import ClusterConflict, RequestError
from orchestrator.kubernetes.access import Access, InPod, Kubeconfig
from orchestrator.kubernetes.base import SECRETS, Cluster, Object
from orchestrator.kubernetes.client import KubernetesCluster

__all__ = ["KEY", "keep", "token"]

KEY: Final = "token"
"""The key of a Secret under which the token is."""

_BYTES: Final = 32
_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def token(*, secret: str | None, namespace: str | None) -> None:
    """Print a token, or create the Secret. Raises RequestError, SettingsError, ClusterError."""
    if secret is None:
        if namespace is not None:
            raise RequestError("--namespace is where a Secret is to be: give its name by --secret")
        printing.write(_new())
        return
    if not _NAME.fullmatch(secret):
        raise RequestError(f"{secret!r} is no name of a Secret: small letters, digits, '-' and '.'")
    made, where = asyncio.run(_keep(secret, namespace or ""))
    told = f"there is a new token in it, under the key '{KEY}'" if made else "it is there already, and stays as it is"
    printing.write(f"secret/{secret} in the namespace {where}: {told}")


def _new() -> str:
    return secrets.token_urlsafe(_BYTES)


async def keep(cluster: Cluster, name: str) -> bool:
    """Create a Secret with a new token, unless one of that name is there. Whether it was made."""
    try:
        await cluster.create(SECRETS, _secret(name))
    except ClusterConflict:
        return False
    return True


async def _keep(name: str, namespace: str) -> tuple[bool, str]:
    """Whether the Secret was made, and the namespace in which it is now."""
    cluster = KubernetesCluster(_access(), namespace=namespace)
    try:
        await cluster.open()
        return await keep(cluster, name), cluster.namespace
    finally:
        await cluster.close()


def _access() -> Access:
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return InPod()
    return Kubeconfig(paths=os.environ.get("KUBECONFIG", ""))


def _secret(name: str) -> Object:
    return {
        "apiVersion": SECRETS.api_version,
        "kind": SECRETS.kind,
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "dagengine"}},
        "type": "Opaque",
        "data": {KEY: base64.b64encode(_new().encode()).decode()},
    }
