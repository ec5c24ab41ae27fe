"""Shared by all tests: settings of hypothesis, and short ways to make workflows."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from dagengine.graph import Graph, compile_document
from dagengine.spec.model import Document

# Derandomized: a run that fails on one machine fails on the next. `HYPOTHESIS_PROFILE=explore` looks for new examples.
settings.register_profile(
    "ci", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("explore", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def document() -> Callable[..., Document]:
    """`document(nodes, **spec)`: a workflow of nodes given as dictionaries; without an executor they run trivial Lua."""

    def make(nodes: list[dict[str, Any]], *, id: str = "w", version: str = "1.0.0", **spec: Any) -> Document:
        lua = {"type": "lua", "code": "return 1"}
        return Document.model_validate(
            {
                "metadata": {"id": id, "version": version},
                "spec": {"nodes": [{"executor": lua} | node for node in nodes], **spec},
            }
        )

    return make


@pytest.fixture(scope="session")
def graph(document: Callable[..., Document]) -> Callable[..., Graph]:
    """The same, compiled."""

    def make(nodes: list[dict[str, Any]], **spec: Any) -> Graph:
        return compile_document(document(nodes, **spec))

    return make
