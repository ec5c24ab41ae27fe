"""A PostgreSQL for benchmarks: a server of its own on loopback, with everything that makes commits durable switched on.

It is the one of the tests (`tests/postgres.py`), which is loaded by its path because tests are no package.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["database"]

_FILE = Path(__file__).parents[1] / "tests" / "postgres.py"


@contextlib.contextmanager
def database() -> Iterator[str]:
    """The URL of a new, empty database."""
    spec = importlib.util.spec_from_file_location("postgres_for_benchmarks", _FILE)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{_FILE} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    server = module.PostgresServer()
    try:
        server.configure(fsync="on", full_page_writes="on")
        yield server.url()
    finally:
        server.close()
