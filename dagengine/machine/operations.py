"""What people can ask of an execution while it runs (and, to run parts of it again, after it has ended).

An operation is durable in the execution's inbox before it is acknowledged, and travels to the engine as the JSON that
`encode` makes. The machine answers each with a fact that cites its `command`: the one it is about, or `CommandRefused`.
Whoever takes operations in (REST, a program) checks `author`; here it is a name that is kept.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType

__all__ = [
    "Cancel",
    "Decide",
    "EditInputs",
    "Operation",
    "Pause",
    "Rerun",
    "Signal",
    "Skip",
    "Unpause",
    "decode",
    "encode",
    "kind_of",
]


class _Operation(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True, tag_field="kind"):
    author: str = ""
    reason: str = ""


class Cancel(_Operation, frozen=True, gc=False, kw_only=True, tag="cancel"):
    """Stop. Effects have `grace` microseconds to end by themselves; `on_exit` still runs.

    With `terminate`, everything ends at once and nothing more runs, also after a cancel.
    """

    grace: int = 0
    terminate: bool = False


class Pause(_Operation, frozen=True, gc=False, kw_only=True, tag="pause"):
    """Begin nothing new and stop the clocks: in the whole execution, or at `node`. What runs may end."""

    node: str = ""


class Unpause(_Operation, frozen=True, gc=False, kw_only=True, tag="resume"):
    """Go on: the whole execution, or `node`. Its clocks go on from where they stood."""

    node: str = ""


class Rerun(_Operation, frozen=True, gc=False, kw_only=True, tag="retry"):
    """Run `nodes` again and everything downstream of them; without any, all that has not succeeded.

    Without `nodes`, the items of a `foreach` that succeeded are kept. What runs among them is stopped first.
    """

    nodes: tuple[str, ...] = ()


class Skip(_Operation, frozen=True, gc=False, kw_only=True, tag="skip"):
    """Do not run `node` (any longer). With `result` (JSON) it counts as succeeded, without as skipped."""

    node: str
    result: Raw | UnsetType = UNSET


class Signal(_Operation, frozen=True, gc=False, kw_only=True, tag="signal"):
    """Tell the execution that `name` has happened. `payload` is JSON."""

    name: str
    payload: Raw = Raw(b"null")


class Decide(_Operation, frozen=True, gc=False, kw_only=True, tag="decide"):
    """Approve of what `node` (its item `index`, counted from 0) waits for, or reject it."""

    node: str
    index: int | None = None
    approved: bool


class EditInputs(_Operation, frozen=True, gc=False, kw_only=True, tag="edit"):
    """Let `node`, which has not run, see other `inputs`: a JSON object whose members replace those of the execution."""

    node: str
    inputs: Raw


Operation = Cancel | Pause | Unpause | Rerun | Skip | Signal | Decide | EditInputs

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Operation] = msgspec.json.Decoder(Operation)


def encode(operation: Operation) -> bytes:
    """The operation as a JSON object with the member `kind`."""
    return _encoder.encode(operation)


def decode(data: bytes) -> Operation:
    """The operation that `encode` made `data` from. Raises `msgspec.ValidationError` when it is none."""
    return _decoder.decode(data)


def kind_of(operation: Operation) -> str:
    """`cancel`, `pause`, `resume`, `retry`, `skip`, `signal`, `decide` or `edit`."""
    tag: str = operation.__struct_config__.tag  # type: ignore[assignment]  # every operation has a text as its tag
    return tag
