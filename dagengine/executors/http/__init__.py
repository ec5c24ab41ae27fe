"""HTTP requests as nodes: guarded against reaching what the engine's operator has not opened.

Importing this package is cheap: the client library is imported with the first request.
"""

from dagengine.executors.http.executor import HTTPRequests
from dagengine.executors.http.policy import Policy

__all__ = ["HTTPRequests", "Policy"]
