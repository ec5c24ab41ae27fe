"""Programs and scripts as nodes, on the engine's machine."""

from dagengine.executors.shell.executor import Programs
from dagengine.executors.shell.limits import Limits

__all__ = ["Limits", "Programs"]
