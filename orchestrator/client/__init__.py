"""The typed Python client: the verbs of an orchestrator, over HTTP.

`Client(url)` offers what the embedded `Orchestrator` offers and raises the same exceptions; `dagctl` is built on it.
"""

from orchestrator.client.client import Client

__all__ = ["Client"]
