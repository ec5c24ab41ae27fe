"""What the machine wants done. The driver performs commands after it has handed the step's facts to the journal.

`node` is a position in the graph; `index` is the position of a `foreach` item counted from 0, or -1 for the node.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from dagengine.events.facts import Fact
from dagengine.machine.stimuli import Purpose

__all__ = ["Abandon", "Command", "Evaluate", "Run", "Step"]


class Run(msgspec.Struct, frozen=True, gc=False):
    """Perform an attempt; answer with `AttemptEnded`. Its `NodeStarted` is a fact of the same or an earlier step."""

    node: int
    index: int
    attempt: int


class Evaluate(msgspec.Struct, frozen=True, gc=False):
    """Evaluate an expression of a node (or the outputs, then `node` is -1); answer with `Evaluated`."""

    purpose: Purpose
    node: int
    index: int


class Abandon(msgspec.Struct, frozen=True, gc=False):
    """Stop an attempt; nobody waits for its outcome any more."""

    node: int
    index: int
    attempt: int


Command = Run | Evaluate | Abandon


class Step(NamedTuple):
    """The answer to one stimulus: what became true, and what to do about it, in this order."""

    facts: list[Fact]
    commands: list[Command]
