from __future__ import annotations

import io

import pytest

from orchestrator.cli import live, plan, progress, waiting


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("no_engine", "no engine is connected and ready"),
        ("all_draining", "every engine is draining: none takes new work"),
        ("engines_full", "every engine that could run it is full, or reserved for another execution"),
        (
            "no_free_engine",
            "it is to have an engine for itself, and every one that could run it has others still, or is kept for "
            "another",
        ),
        (
            "no_reservable_engine",
            "it is to have an engine for itself, and those that could run it are of a release that cannot keep others "
            "out: upgrade them",
        ),
        (
            "no_label:pool=gpu",
            "no engine that could run it has the label 'pool=gpu' (ENGINE_POOL=gpu of an engine)",
        ),
        (
            "no_label:disk=ssd+pool=gpu+zone=a",
            "no engine that could run it has the labels 'disk=ssd', 'pool=gpu' and 'zone=a' "
            "(ENGINE_POOL=gpu ENGINE_LABELS=disk=ssd,zone=a of an engine)",
        ),
        ("engines_unable", "no engine is able to run it"),
        ("no_executor:python", "no engine has the executor 'python'"),
        ("no_executor:lua+python", "no engine has the executors 'lua' and 'python'"),
        (
            "engine_away:e-1",
            "its engine 'e-1' is not connected: it goes on there once that is back, or elsewhere when it stays away "
            "for longer than ENGINE_LOST_TIMEOUT",
        ),
        ("something_new", "something_new"),
    ],
)
def test_reasons_are_told_in_words(reason: str, expected: str) -> None:
    assert waiting.words(reason) == expected


def test_missing_functions_are_named_with_the_flag_that_brings_them() -> None:
    assert waiting.words("engines_unable", ("p@1.0.0.a", "resize")) == (
        "no engine has the Python functions 'p@1.0.0.a' and 'resize' "
        "(dag-engine --python 'p@1.0.0.a=module:a' --python 'resize=module:resize')"
    )


def test_functions_that_are_named_by_path_come_with_the_flag_that_allows_them() -> None:
    assert waiting.words("engines_unable", ("images.work:resize",)) == (
        "no engine has the Python function 'images.work:resize' (dag-engine --python-allow 'images.work:resize')"
    )


def test_the_functions_of_a_plan_are_known_once_each(sample: plan.Plan) -> None:
    assert sample.functions == ("check",)


def test_a_live_table_says_it_too(sample: plan.Plan) -> None:
    out = io.StringIO()
    with live.Live(progress.Board(sample), out) as shown:
        shown.say("queued: no engine is connected and ready")
    assert "queued: no engine is connected and ready" in out.getvalue()
