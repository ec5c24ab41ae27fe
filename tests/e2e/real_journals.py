"""What every journal promises, held against journals that were made by real processes."""

from __future__ import annotations

from collections import Counter

from dagengine.events import facts as codec
from dagengine.events.facts import Fact
from dagengine.graph import compile_document
from dagengine.machine import fold
from dagengine.machine.check import check
from dagengine.spec.model import Document
from orchestrator.verbs import Verbs

__all__ = ["Journals"]


class Journals:
    """Reads journals and holds them against what every journal promises."""

    async def of(self, verbs: Verbs, execution: str) -> list[Fact]:
        """All facts of an execution that has ended: contiguous, foldable, and each node committed once."""
        views = []
        while page := await verbs.facts(execution, after=len(views)):
            views += page
        assert [view.seq for view in views] == list(range(1, len(views) + 1))
        assert [view.epoch for view in views] == sorted(view.epoch for view in views)
        made = [codec.decode(bytes(view.fact)) for view in views]
        view = await verbs.execution(execution)
        document = Document.model_validate_json(
            bytes((await verbs.workflow(f"{view.workflow}@{view.version}")).document)
        )
        machine = fold(compile_document(document), made, execution=execution)
        check(machine)
        assert machine.state.status == view.status
        assert view.last_seq == len(made)
        ends = Counter((fact.node, fact.index) for fact in made if isinstance(fact, codec.NodeSucceeded))
        assert set(ends.values()) <= {1}
        return made

    def started(self, made: list[Fact]) -> Counter[str]:
        """How often an attempt of each node was started, going by the facts."""
        return Counter(fact.node for fact in made if isinstance(fact, codec.NodeStarted))

    def orphans(self, made: list[Fact]) -> list[str]:
        """Nodes with an attempt that was lost with its engine."""
        failed = [fact for fact in made if isinstance(fact, codec.NodeFailed)]
        assert {(fact.conclusion, fact.error.type) for fact in failed} <= {("error", "Orphaned")}
        return [fact.node for fact in failed]
