"""The compiled workflows that an engine keeps, by digest: one graph is shared by all executions of a version."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

import pydantic

from dagengine.errors import SpecError, WireError
from dagengine.graph import Graph, compile_document
from dagengine.spec.model import Document

__all__ = ["Documents"]

KEPT: Final = 256


class Documents:
    """The workflows used last, at most `kept` of them."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._graphs: OrderedDict[str, Graph] = OrderedDict()

    def find(self, digest: str) -> Graph | None:
        """The graph with this digest, if it is known."""
        graph = self._graphs.get(digest)
        if graph is not None:
            self._graphs.move_to_end(digest)
        return graph

    def add(self, digest: str, document: bytes) -> Graph:
        """Read, compile and keep a canonical document. WireError when it cannot be used or has another digest."""
        actual = "sha256:" + hashlib.sha256(document).hexdigest()
        if actual != digest:
            raise WireError(f"the document that came with digest {digest} has {actual}")
        try:
            graph = compile_document(Document.model_validate_json(document))
        except (pydantic.ValidationError, SpecError) as exc:
            raise WireError(f"the document {digest} cannot be used by this engine: {exc}") from exc
        self._graphs[digest] = graph
        if len(self._graphs) > self._kept:
            self._graphs.popitem(last=False)
        return graph
