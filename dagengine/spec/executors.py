"""What a node can do: one model for each executor type of a document.

`templates` of each is the JSON value whose `{{ }}` are evaluated before an attempt (the attempt's `args`), or None.
`pure` tells whether an attempt has no effect that the outside can see, so that it may run ahead of the commit.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BeforeValidator,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    StringConstraints,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from dagengine.spec.base import Identifier, Model
from dagengine.spec.duration import Duration
from dagengine.spec.instant import parse_instant
from dagengine.spec.plain import describe, show
from dagengine.spec.size import Size

__all__ = [
    "AnyExecutor",
    "Approval",
    "BasicAuth",
    "BearerAuth",
    "HeaderAuth",
    "HTTPExecutor",
    "LuaExecutor",
    "PythonExecutor",
    "ShellExecutor",
    "Signal",
    "WaitExecutor",
]


Template = Annotated[str, Field(description="A text that may hold `{{ }}` templates.")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""The name of an environment variable."""
Header = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
"""The name of an HTTP header (RFC 9110, `token`)."""
Pointer = Annotated[str, StringConstraints(pattern=r"^(/([^~/]|~[01])*)*$")]
"""A JSON pointer (RFC 6901)."""

_OF_THE_CONNECTION: Final = frozenset(
    ["host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect"]
)
"""Headers that are made from the URL and the body, or that are between two machines: nodes do not say them."""

_CLASS: Final = re.compile("[1-5]xx")


def _status(value: Any) -> int | str:
    """A status that is expected: one from 100 to 599, or a class of them."""
    if isinstance(value, str) and _CLASS.fullmatch(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
        return value
    raise ValueError(f"expected a status from 100 to 599, or a class such as 2xx; got {show(value)}")


def _setting(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        raise ValueError(f"expected text, a number, true or false, got {describe(value)}; write it as text with json()")
    return value


def _instant(value: Any) -> Any:
    """A time that can be read, or a text with templates, of which only running them can tell."""
    if not (isinstance(value, str) and "{{" in value):
        parse_instant(value)
    return value


Status = Annotated[
    int | str,
    BeforeValidator(_status),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 599},
                {"type": "string", "pattern": "^[1-5]xx$"},
            ],
            "description": "A status, or a class of them such as 2xx.",
        }
    ),
]
Setting = Annotated[str | float | int | bool | None, BeforeValidator(_setting)]
"""The value of an environment variable; a text may hold templates."""
Until = Annotated[
    str | int | float,
    BeforeValidator(_instant),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": "number", "minimum": 0}]}),
]


class _Typed(Model):
    """One of several models. `type` is always written: it says which model the rest belongs to."""

    type: str

    @model_serializer(mode="wrap")
    def _with_type(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"type": self.type, **handler(self)}


class _Executor(_Typed):
    """What all executors share."""

    @property
    def templates(self) -> dict[str, Any] | None:
        """What is evaluated before an attempt, as a JSON object; None when there is nothing."""
        return None


class LuaExecutor(_Executor):
    """Runs a Lua 5.5 chunk in the sandbox; what it returns is the node's result."""

    type: Literal["lua"] = "lua"
    code: str = Field(min_length=1, description="The Lua chunk; `inputs`, `nodes` and `env` are in scope.")
    memory: Size | None = Field(
        default=None, ge=1 << 20, description="Bytes that the script may use; the engine's own limit is the most."
    )
    output: Size | None = Field(default=None, gt=0, description="Bytes that the result may take as JSON (4 MiB).")

    @property
    def pure(self) -> bool:
        """Lua reaches nothing outside."""
        return True


class PythonExecutor(_Executor):
    """Calls a Python function known to the engine; what it returns is the node's result."""

    type: Literal["python"] = "python"
    function: str = Field(
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.@+:-]*$",
        description="The name under which the engine registered the function, or `package.module:function`.",
    )
    args: dict[str, JsonValue] = Field(
        default_factory=dict, description="Keyword arguments; texts may hold `{{ }}` templates."
    )
    pure: bool = Field(
        default=False, strict=True, description="The function has no effect outside; it may be run again freely."
    )
    isolation: Literal["thread", "process"] = Field(
        default="thread", description="Where a synchronous function runs: on a thread, or in a process that is killed."
    )

    @property
    def templates(self) -> dict[str, Any] | None:
        """The keyword arguments."""
        return dict(self.args) or None


class ShellExecutor(_Executor):
    """Runs a program or a shell script on the engine's machine, where the engine allows it."""

    type: Literal["shell"] = "shell"
    command: tuple[str, ...] = Field(default=(), description="Program and arguments, taken as they are: no shell.")
    script: str = Field(default="", description="Text for `shell`, taken as it is: values come by `env` and `stdin`.")
    shell: tuple[str, ...] = Field(
        default=("/bin/sh", "-eu"), min_length=1, description="What runs `script`; its path comes as last argument."
    )
    env: dict[Variable, Setting] = Field(
        default_factory=dict, description="Environment; texts may hold templates. What is null is not set."
    )
    secrets: dict[Variable, Identifier] = Field(default_factory=dict, description="Environment from secrets, by name.")
    stdin: JsonValue = Field(default=None, description="Standard input: a text, or a value written as JSON.")
    output: Size | None = Field(default=None, gt=0, description="Bytes that the result may take as JSON (4 MiB).")

    @property
    def pure(self) -> bool:
        """Programs change things."""
        return False

    @property
    def templates(self) -> dict[str, Any] | None:
        """`env` and `stdin`, as far as there are any."""
        found = {"env": dict(self.env) or None, "stdin": self.stdin}
        return {name: value for name, value in found.items() if value is not None} or None

    @model_validator(mode="after")
    def _one_of(self) -> ShellExecutor:
        if bool(self.command) == bool(self.script):
            raise ValueError("a shell node needs either `command` or `script`")
        if self.command and not self.command[0]:
            raise ValueError("`command` names no program: its first word is empty")
        if taken := sorted(name for name in {*self.env, *self.secrets} if name.startswith("DAG_")):
            raise ValueError(
                f"the engine itself sets the variables that begin with DAG_: choose another than {taken[0]}"
            )
        if twice := sorted(self.env.keys() & self.secrets.keys()):
            raise ValueError(f"the variable {twice[0]} is in `env` and in `secrets`: keep one of them")
        return self


class BearerAuth(_Typed):
    """`Authorization: Bearer …`."""

    type: Literal["bearer"] = "bearer"
    secret: Identifier = Field(description="The secret that holds the token.")


class BasicAuth(_Typed):
    """`Authorization: Basic …`."""

    type: Literal["basic"] = "basic"
    username: str = Field(description="The user, in plain text.")
    secret: Identifier = Field(description="The secret that holds the password.")


class HeaderAuth(_Typed):
    """A header of its own, such as `X-API-Key`."""

    type: Literal["header"] = "header"
    name: Header = Field(description="Name of the header.")
    secret: Identifier = Field(description="The secret that holds its value.")


class HTTPExecutor(_Executor):
    """Sends an HTTP request; the node's result is what `select` makes of the response, else its body."""

    type: Literal["http"] = "http"
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = Field(default="GET", description="What to do.")
    url: Template = Field(min_length=1, description="Where to: http or https; may hold templates.")
    query: dict[str, JsonValue] = Field(default_factory=dict, description="Query parameters; texts may hold templates.")
    headers: dict[Header, Template] = Field(default_factory=dict, description="Headers; texts may hold templates.")
    json_body: JsonValue = Field(default=None, alias="json", description="Body, sent as JSON.")
    form: dict[str, Template] = Field(default_factory=dict, description="Body, sent as a form.")
    body: Template | None = Field(default=None, description="Body, sent as it is.")
    auth: Annotated[BearerAuth | BasicAuth | HeaderAuth, Field(discriminator="type")] | None = Field(
        default=None, description="Credentials, from a secret."
    )
    verify: bool = Field(default=True, strict=True, description="Check the server's certificate.")
    redirects: int = Field(default=0, ge=0, le=20, strict=True, description="Redirects that are followed.")
    expect: tuple[Status, ...] = Field(
        default=("2xx",), min_length=1, description="Statuses that are a success: 200, 2xx, 404, …"
    )
    pointers: dict[str, Pointer] = Field(
        default_factory=dict, description="The result: an object of JSON pointers (RFC 6901) into the body."
    )
    select: str | None = Field(
        default=None, min_length=1, description="The result: a Lua expression over `response` (status, headers, body)."
    )
    output: Size | None = Field(default=None, gt=0, description="Bytes of the response that are read at most (4 MiB).")

    @property
    def pure(self) -> bool:
        """A request is seen by its server."""
        return False

    @property
    def templates(self) -> dict[str, Any] | None:
        """Everything of the request that may depend on values."""
        found = {
            "url": self.url,
            "query": dict(self.query) or None,
            "headers": dict(self.headers) or None,
            "json": self.json_body,
            "form": dict(self.form) or None,
            "body": self.body,
        }
        return {name: value for name, value in found.items() if value is not None}

    @model_validator(mode="after")
    def _one_of(self) -> HTTPExecutor:
        if (self.json_body is not None) + bool(self.form) + (self.body is not None) > 1:
            raise ValueError("a request has one body: keep one of `json`, `form` and `body`")
        if self.pointers and self.select is not None:
            raise ValueError("the result is made in one way: keep one of `pointers` and `select`")
        return self

    @model_validator(mode="after")
    def _own_headers(self) -> HTTPExecutor:
        seen: set[str] = set()
        proof = self.auth.name if isinstance(self.auth, HeaderAuth) else "Authorization" if self.auth else ""
        for name in (*self.headers, *([proof] if proof else [])):
            if name.lower() in _OF_THE_CONNECTION or name.lower().startswith("proxy-"):
                raise ValueError(f"the header '{name}' is the engine's to set")
            if name.lower() in seen:
                raise ValueError(f"the header '{name}' is set twice, in `headers` or by `auth`")
            seen.add(name.lower())
        return self


class Signal(Model):
    """A message from outside that a node waits for."""

    name: Template = Field(min_length=1, description="Name of the signal.")
    payload: dict[str, JsonValue] = Field(
        default_factory=dict, description="JSON Schema of what comes with it, which is the node's result."
    )
    timeout: Duration | None = Field(default=None, gt=0, description="How long to wait.")
    default: JsonValue = Field(
        default=None, description="The result when nothing comes in time; without it the node fails."
    )


class Approval(Model):
    """A decision by people that a node waits for."""

    who: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = Field(
        default=(), description="Who may decide, by name; without any, everybody."
    )
    quorum: int = Field(default=1, ge=1, le=100, strict=True, description="How many must approve; one refusal refuses.")
    timeout: Duration | None = Field(default=None, gt=0, description="How long to wait.")
    default: Literal["approve", "reject"] | None = Field(
        default=None, description="What it is when too few decide in time; without it the node fails."
    )

    @model_validator(mode="after")
    def _enough(self) -> Approval:
        if self.who and len(set(self.who)) < self.quorum:
            raise ValueError(f"{self.quorum} must approve, but only {len(set(self.who))} may")
        return self


class WaitExecutor(_Executor):
    """Waits, without holding anything: for a time, a signal or an approval."""

    type: Literal["wait"] = "wait"
    duration: Duration | None = Field(default=None, gt=0, description="How long.")
    until: Until | None = Field(
        default=None, description="Until when: a time such as 2026-01-31T09:30:00Z, or seconds since 1970."
    )
    signal: Signal | None = Field(default=None, description="For a message from outside.")
    approval: Approval | None = Field(default=None, description="For a decision by people.")

    @property
    def pure(self) -> bool:
        """Waiting is done by the machine itself."""
        return True

    @property
    def templates(self) -> dict[str, Any] | None:
        """The time or the name of the signal, where it is a template."""
        if isinstance(self.until, str) and "{{" in self.until:
            return {"until": self.until}
        if self.signal is not None and "{{" in self.signal.name:
            return {"signal": self.signal.name}
        return None

    @model_validator(mode="after")
    def _one_of(self) -> WaitExecutor:
        given = (self.duration, self.until, self.signal, self.approval)
        if sum(part is not None for part in given) != 1:
            raise ValueError("a wait node needs one, and only one, of `duration`, `until`, `signal` and `approval`")
        return self


AnyExecutor = Annotated[
    LuaExecutor | PythonExecutor | ShellExecutor | HTTPExecutor | WaitExecutor, Field(discriminator="type")
]
