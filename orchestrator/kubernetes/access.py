"""How the Kubernetes API is reached: as a pod of the cluster, or by a kubeconfig. Loaded anew when it is refused.

`kubernetes.aio` reads both (clusters, contexts, users, tokens, certificates, commands that give credentials); it comes
with the extra `kubernetes`, and takes a third of a second to import: so only when somebody asks for it. Used by
`client`; what is here knows nothing of requests.
"""

from __future__ import annotations

import base64
import os
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from dagengine.errors import SettingsError

__all__ = ["SERVICE_ACCOUNT", "Access", "Connection", "InPod", "Kubeconfig"]

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod has the token, the CA and the namespace of its service account."""

_INSTALL: Final = "the Kubernetes API needs an extra of this package: pip install 'dagengine[kubernetes]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A low-level client of `kubernetes.aio`, the server it is for, and the namespace that the access names."""

    api: Any
    server: str
    namespace: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InPod:
    """As a pod: with the token of its service account, which is read again every minute, since it is rotated."""

    directory: Path = SERVICE_ACCOUNT
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    async def connect(self) -> Connection:
        """A client. Raises SettingsError when this is no pod of a cluster, or its files are not there."""
        client, config = _library()
        configuration = client.Configuration()
        loader = config.incluster_config.InClusterConfigLoader(
            token_filename=str(self.directory / "token"),
            cert_filename=str(self.directory / "ca.crt"),
            environ=self.environment,
        )
        try:
            loader.load_and_set(configuration)
        except (config.ConfigException, OSError) as exc:
            raise SettingsError(
                f"this is no pod with a service account of a Kubernetes cluster ({exc}): outside of one, set "
                "IN_CLUSTER_CONFIG=false and KUBECONFIG"
            ) from exc
        read = configuration.refresh_api_key_hook

        def refresh(configuration: Any) -> None:
            read(configuration)
            configuration.refresh_api_key_hook = refresh  # it has put itself there
            _trim(configuration)

        configuration.refresh_api_key_hook = refresh
        return Connection(
            api=client.ApiClient(configuration), server=configuration.host, namespace=_own_namespace(self.directory)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubeconfig:
    """By a kubeconfig. `paths` are as in `KUBECONFIG`, `~/.kube/config` if empty; `context` its current one if empty.

    A command that gives the credentials is run anew when it is time, or when the API refuses them.
    """

    paths: str = ""
    context: str = ""

    async def connect(self) -> Connection:
        """A client. Raises SettingsError when there is no such file or context, or the file cannot be used."""
        client, config = _library()
        paths = _existing(self.paths or "~/.kube/config")
        configuration = client.Configuration(host="")
        try:
            loader = await config.load_kube_config(
                config_file=paths,
                context=self.context or None,
                client_configuration=configuration,
                persist_config=False,
            )
            fault = _fault(loader, configuration)
            _trim(configuration)
            # What the library says of a wrong file may quote it, tokens included: so its words stay out of ours.
            api = client.ApiClient(configuration) if not fault else None
        except Exception as exc:
            raise self._unusable(paths, type(exc).__name__) from None
        if fault:
            raise self._unusable(paths, fault)
        named = loader.current_context["context"].get("namespace") or ""
        return Connection(api=api, server=configuration.host, namespace=str(named))

    def _unusable(self, paths: str, fault: str) -> SettingsError:
        which = f"the context '{self.context}'" if self.context else "the current context"
        return SettingsError(
            f"the kubeconfig {paths} cannot be used ({fault}): it should be YAML in which {which} names a cluster and "
            "a user, and their files should be there"
        )


Access = InPod | Kubeconfig


def _fault(loader: Any, configuration: Any) -> str:
    """Why no connection can be made of what was loaded; empty when one can. It is made ready for that."""
    if not configuration.host:
        return "there is no server"
    user = loader._user
    if user is not None and "exec" in user and not (configuration.api_key or configuration.cert_file):
        # Without any, the API would take us for nobody, and refuse in a way that new credentials are not loaded upon.
        return "the command that gives the credentials of the user has failed: run it by hand to see why"
    return "" if configuration.proxy is None else _proxy_fault(configuration)


def _proxy_fault(configuration: Any) -> str:
    """The same of its proxy. User and password are taken out of its URL, which errors quote."""
    parts = urllib.parse.urlsplit(configuration.proxy)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "its proxy-url is not one of http or https"
    if parts.username is not None:
        words = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        # aiohttp makes Proxy-Authorization of it, as it does of what is in the URL.
        configuration.proxy_headers = {"Authorization": f"Basic {base64.b64encode(words.encode()).decode()}"}
        configuration.proxy = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return ""


def _trim(configuration: Any) -> None:
    """Take the line break off that a file with a token often ends with."""
    if token := configuration.api_key.get("BearerToken"):
        configuration.api_key["BearerToken"] = token.strip()


def _existing(paths: str) -> str:
    if not any(Path(path).expanduser().is_file() for path in paths.split(os.pathsep) if path):
        raise SettingsError(f"there is no kubeconfig at {paths}: set KUBECONFIG to a file that is there")
    return paths


def _own_namespace(directory: Path) -> str:
    try:
        return (directory / "namespace").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _library() -> tuple[Any, Any]:
    try:
        from kubernetes.aio import client, config
    except ImportError as exc:
        raise SettingsError(_INSTALL) from exc
    return client, config
