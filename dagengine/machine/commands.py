"""What the machine wants done. The driver performs commands after it has handed the step's facts to the journal.

`node` is a position in the graph; `index` is the position of a `foreach` item counted from 0, or -1 for the node.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from dagengine.events.facts import Fact
from dagengine.machine.stimuli import Purpose

__all__ = ["Abandon", "Admit", "Command", "Evaluate", "Lookup", "Run", "Step"]


class Run(msgspec.Struct, frozen=True, gc=False):
    """Perform an attempt; answer with `AttemptEnded`. Its `NodeStarted` is a fact of the same or an earlier step."""

    node: int
    index: int
    attempt: int


class Evaluate(msgspec.Struct, frozen=True, gc=False):
    """Evaluate an expression of a node (or the outputs, then `node` is -1); answer with `Evaluated`.

    `serial` tells one question from another; the answer repeats it.
    """

    purpose: Purpose
    node: int
    index: int
    serial: int


class Abandon(msgspec.Struct, frozen=True, gc=False):
    """Stop an attempt. It has `grace` microseconds to end by itself before it is stopped by force."""

    node: int
    index: int
    attempt: int
    grace: int = 0


class Admit(msgspec.Struct, frozen=True, gc=False):
    """Ask for room in the node's pool, and for its turn by its rate; answer with `Admitted`, or first with `Queued`."""

    node: int
    index: int
    attempt: int


class Lookup(msgspec.Struct, frozen=True, gc=False):
    """Look for a result that was found before under the digest `key`; answer with `Found`."""

    node: int
    index: int
    key: str
    serial: int


Command = Run | Evaluate | Abandon | Admit | Lookup


class Step(NamedTuple):
    """The answer to one stimulus: what became true, and what to do about it, in this order."""

    facts: list[Fact]
    commands: list[Command]
