"""The oracle of the crash matrix says nothing about a good story, and notices every way to spoil it.

`story.txt` was recorded: an execution of `effects` whose engine was killed while three of its effects ran.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from chaos_oracle import Story, effects_of, wrong_with
from chaos_work import DOCUMENTS, Job

from dagengine.graph import compile_document
from dagengine.spec.model import Document
from orchestrator.verbs import ExecutionView, FactView

JOURNAL, EFFECTS = (Path(__file__).parent / "story.txt").read_text().split("\n\n")
GRAPH = compile_document(Document.model_validate(DOCUMENTS[1]))


def views(journal: str) -> list[FactView]:
    made = []
    for seq, line in enumerate(journal.splitlines(), 1):
        epoch, _, fact = line.partition(" ")
        made.append(FactView(seq=seq, epoch=int(epoch), fact=msgspec.Raw(fact.encode())))
    return made


def story(journal: str = JOURNAL, effects: str = EFFECTS, *, shown: str | None = None, **view: object) -> Story:
    """The story as it is told by these lines."""
    facts = views(journal)
    known = {
        "id": "e",
        "workflow": "effects",
        "version": "1.0.0",
        "status": "succeeded",
        "created_at": 0,
        "epoch": 2,
        "last_seq": len(facts),
        "outputs": {"double": 8, "marks": 3},
    }
    job = Job(key="k", workflow="effects", n=4, starts=0, signals=0)
    return Story(
        job=job,
        view=msgspec.convert(known | view, ExecutionView),
        journal=facts,
        effects=effects_of(effects),
        shown=None if shown is None else views(shown),
    )


def without(text: str, *parts: str) -> str:
    """All lines but the one that has all these parts."""
    lines = text.splitlines()
    (found,) = [line for line in lines if all(part in line for part in parts)]
    return "\n".join(line for line in lines if line is not found)


def twice(text: str, *parts: str) -> str:
    """The line that has all these parts comes once more, right after itself."""
    lines = text.splitlines()
    (found,) = [line for line in lines if all(part in line for part in parts)]
    lines.insert(lines.index(found), found)
    return "\n".join(lines)


def test_a_good_story_is_good() -> None:
    assert wrong_with(story(shown=JOURNAL), GRAPH) == []


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        pytest.param(lambda: story(status="failed"), "it is failed", id="it-fails"),
        pytest.param(lambda: story(outputs={"double": 9, "marks": 3}), "undisturbed run", id="other-outputs"),
        pytest.param(lambda: story(last_seq=33), "its facts are numbered", id="a-fact-is-lost"),
        pytest.param(lambda: story(JOURNAL.replace("\n1 ", "\n3 ", 1)), "its epochs are", id="epochs-in-disorder"),
        pytest.param(lambda: story(twice(JOURNAL, '"ExecutionSucceeded"')), "ends at [32, 33]", id="two-ends"),
        pytest.param(
            lambda: story(twice(JOURNAL, '"NodeSucceeded"', '"mark"')), "('mark', None) succeeds again", id="runs-again"
        ),
        pytest.param(
            lambda: story(without(JOURNAL, '"NodeFailed"', '"each"', '"index":2')),
            "begins attempt 2 after 0 that have failed",
            id="no-orphan",
        ),
        pytest.param(
            lambda: story(JOURNAL.replace("Orphaned", "Killed", 1)), "failed as error of Killed", id="another-error"
        ),
        pytest.param(lambda: story(without(JOURNAL, '"NodeStarted"', '"last"')), "cannot be folded", id="no-start"),
        pytest.param(
            lambda: story(without(JOURNAL, '"NodeStarted"', '"last"')),
            "was performed, but its start is not committed",
            id="an-effect-without-start",
        ),
        pytest.param(
            lambda: story(effects=twice(EFFECTS, "/last/")), "attempt 1 of e/last/0 was performed 2 times", id="twice"
        ),
        pytest.param(
            lambda: story(effects=EFFECTS.replace("e/write/1 e", "e/write/0 e")),
            "should have the key e/write/1",
            id="a-key-comes-again",
        ),
        pytest.param(
            lambda: story(effects=EFFECTS.replace("1795286814.388998", "1795286814.388999")),
            "should have been given 1795286814.388998",
            id="an-uncommitted-result",
        ),
        pytest.param(
            lambda: story(without(JOURNAL, '"NodeSucceeded"', '"between"')),
            "is based on a result that is not committed",
            id="a-result-that-is-not-there",
        ),
        pytest.param(
            lambda: story(effects=without(EFFECTS, "/last/")), "was never performed", id="an-effect-is-missing"
        ),
        pytest.param(
            lambda: story(effects=EFFECTS + "e/double/0 e double - 1 8\n"),
            "is none of effects",
            id="an-effect-of-a-pure-node",
        ),
        pytest.param(
            lambda: story(shown=JOURNAL.replace("3-20868", "2-20777")), "was shown something else", id="another-result"
        ),
    ],
)
def test_a_spoilt_story_is_noticed(spoil: Callable[[], Story], complaint: str) -> None:
    wrong = wrong_with(spoil(), GRAPH)
    assert any(complaint in each for each in wrong), wrong
