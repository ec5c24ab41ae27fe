"""The options that lead to an orchestrator: which one, with which token, over which TLS.

Every command that speaks to one takes them all, through `takes_access`; `connection` makes a client of them.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated

import typer

__all__ = ["Access", "takes_access"]

Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar="DAGCTL_SERVER",
        metavar="URL",
        help="The orchestrator. Without it: the one that `dagctl dev` runs, else http://127.0.0.1:8080.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="The orchestrator's token. Other users of this machine can see flags: prefer the variable "
        "DAGENGINE_TOKEN, or a file.",
    ),
]
TokenFile = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="A file that holds the token (or the variable DAGENGINE_TOKEN_FILE, naming one).",
    ),
]
TLSCA = Annotated[
    str | None,
    typer.Option(
        "--tls-ca",
        envvar="DAGCTL_TLS_CA",
        metavar="FILE",
        help="PEM file: CA that signed the orchestrator's certificate. Without it: those that are trusted everywhere.",
    ),
]
TLSCert = Annotated[
    str | None,
    typer.Option(
        "--tls-cert",
        envvar="DAGCTL_TLS_CERT",
        metavar="FILE",
        help="PEM file: certificate of this user, for an orchestrator that asks for one.",
    ),
]
TLSKey = Annotated[
    str | None,
    typer.Option("--tls-key", envvar="DAGCTL_TLS_KEY", metavar="FILE", help="PEM file: private key of --tls-cert."),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What was given of them, by flag or environment variable. The token is never shown."""

    server: Server = None
    token: Token = None
    token_file: TokenFile = None
    tls_ca: TLSCA = None
    tls_cert: TLSCert = None
    tls_key: TLSKey = None

    def __repr__(self) -> str:
        return f"Access(server={self.server!r}, …)"


def takes_access(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with an option for each field of `Access`, which it gets as `access`."""
    names = [field.name for field in fields(Access)]

    @functools.wraps(command)
    def with_options(*arguments: object, **options: object) -> None:
        given = {name: options.pop(name) for name in names if name in options}
        command(*arguments, **options, access=Access(**given))  # type: ignore[arg-type]  # the options say their types

    own = inspect.signature(command, eval_str=True)
    hints = typing.get_type_hints(Access, include_extras=True)
    parameters = [parameter for parameter in own.parameters.values() if parameter.name != "access"]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hints[name]) for name in names
    ]
    with_options.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]  # where typer looks
    return with_options
