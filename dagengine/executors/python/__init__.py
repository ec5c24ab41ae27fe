"""Python functions as nodes: synchronous ones on threads, asynchronous ones on the event loop."""

from dagengine.executors.python.binding import Binding, Context
from dagengine.executors.python.executor import PythonFunctions

__all__ = ["Binding", "Context", "PythonFunctions"]
