"""`docs/machine.md` says what the machine does."""

from __future__ import annotations

import runpy
from pathlib import Path

from dagengine.machine.phases import TRANSITIONS, Phase

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "machine.md"


def test_the_page_is_up_to_date() -> None:
    generated = runpy.run_path(str(ROOT / "scripts" / "generate_machine.py"))["document"]()
    assert PAGE.read_text(encoding="utf-8") == generated, "run `make docs`"


def test_the_diagram_shows_every_transition_and_no_other() -> None:
    diagram = PAGE.read_text(encoding="utf-8").partition("```mermaid\n")[2].partition("```")[0]
    shown = set()
    for line in diagram.splitlines():
        arrow, _, labels = line.strip().partition(": ")
        before, _, after = arrow.partition(" --> ")
        for label in labels.split(" / ") if labels else ():
            shown.add((label, before, after))
    legal = {(fact, before.name, after.name) for fact, row in TRANSITIONS.items() for before, after in row.items()}
    assert shown == legal
    assert all(phase.name in diagram for phase in Phase)
