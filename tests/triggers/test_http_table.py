"""Which request starts which workflow."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dagengine.spec.model import Document
from orchestrator.store.base import VersionRecord
from orchestrator.triggers.http import HTTPTriggerTable, check

Register = Callable[..., VersionRecord]


def test_the_highest_stable_version_answers(version: Register) -> None:
    table = HTTPTriggerTable(
        [
            version("w@1.0.0", http="/old"),
            version("w@1.10.0", http="/new"),
            version("w@1.9.0", http="/older"),
            version("w@2.0.0-rc.1", http="/next"),
        ]
    )
    assert table.reference("POST", "/new") == "w@1.10.0"
    assert [route.path for route in table] == ["/new"]


def test_method_and_path_must_both_fit_and_a_final_slash_does_not_matter(version: Register) -> None:
    table = HTTPTriggerTable([version("w@1.0.0", http={"path": "/a/b/", "method": "PUT"})])
    assert table.reference("PUT", "/a/b") == table.reference("PUT", "/a/b/") == "w@1.0.0"
    assert table.reference("POST", "/a/b") is None
    assert table.reference("PUT", "/a") is None
    assert HTTPTriggerTable().reference("POST", "/") is None


def test_workflows_without_a_trigger_are_not_in_the_table(version: Register) -> None:
    assert len(HTTPTriggerTable([version("w@1.0.0", http="/a"), version("w@2.0.0"), version("x@1.0.0")])) == 0


def test_a_path_that_another_workflow_has_is_a_conflict(version: Register, document: Callable[..., Document]) -> None:
    table = HTTPTriggerTable([version("w@1.0.0", http="/a")])

    def conflict(workflow: str, path: str, number: str = "1.0.0", method: str = "POST") -> str:
        made = document([{"id": "n"}], id=workflow, version=number, triggers={"http": {"path": path, "method": method}})
        return str(table.conflict(made) or "")

    assert conflict("x", "/a/") == (
        "spec.triggers.http.path: POST /a starts the workflow 'w' already (version 1.0.0): choose another path"
    )
    assert conflict("w", "/a", "1.1.0") == ""
    assert conflict("x", "/b") == ""
    assert conflict("x", "/a", method="PUT") == ""
    assert conflict("x", "/a", "1.0.0-rc.1") == ""
    assert table.conflict(document([{"id": "n"}], id="x")) is None


def test_of_two_workflows_with_one_path_the_earlier_one_keeps_it(version: Register) -> None:
    table = HTTPTriggerTable([version("b@1.0.0", at=1, http="/a"), version("a@1.0.0", at=2, http="/a")])
    assert table.reference("POST", "/a") == "b@1.0.0"
    assert [route.reference for route in table.shadowed] == ["a@1.0.0"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/trigger/x", ""),
        ("/apis", ""),
        ("/", "'/' cannot be a trigger"),
        ("/api", "'/api' belongs to the orchestrator's own interface (/api)"),
        ("/api/v1/workflows", "belongs to the orchestrator's own interface (/api)"),
        ("/healthz", "belongs to the orchestrator's own interface (/healthz)"),
        ("/metrics/", "belongs to the orchestrator's own interface (/metrics)"),
    ],
)
def test_paths_of_the_orchestrator_itself_are_refused(document: Callable[..., Document], path: str, said: str) -> None:
    problems = [str(problem) for problem in check(document([{"id": "n"}], triggers={"http": {"path": path}}))]
    assert len(problems) == bool(said)
    assert said in "".join(problems)
