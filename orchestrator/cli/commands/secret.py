"""`dagctl token`: the secret that orchestrators, engines and clients share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["token"]


def token(
    secret: Annotated[
        str | None,
        typer.Option("--secret", metavar="NAME", help="Keep it in this Kubernetes Secret, unless that is there."),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "-n", metavar="NAME", help="Where the Secret is. Default: that of the context."),
    ] = None,
) -> None:
    """Print a new random token, for DAGENGINE_TOKEN, or keep one in Kubernetes.

    With --secret it is not printed: it becomes the key `token` of a Secret, which is left as it is when it is there.
    In a pod the rights of its service account are used (to create secrets), elsewhere the kubeconfig.

    \b
    Examples:
      dagctl token > token
      dagctl token --secret workflow-token
      dagctl token --secret workflow-token -n workflows
    """
    from orchestrator.cli import tokens

    tokens.token(secret=secret, namespace=namespace)
