"""The heart: one execution as a pure state machine over a compiled graph. Start reading at `machine`."""

from dagengine.machine.machine import Machine, fold

__all__ = ["Machine", "fold"]
