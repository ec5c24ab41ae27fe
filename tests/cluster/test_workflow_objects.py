"""Workflow objects: registered as they are applied, removed as they are deleted, and told about in their status."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_workflow_objects import World, execution, waiting_workflow, workflow, world

from dagengine.app import DAGEngine
from dagengine.spec import document
from orchestrator.controller.workflows import FINALIZER
from orchestrator.errors import NotFound
from orchestrator.kubernetes.base import WORKFLOWS

VERSION = "workflows.dagengine.dev/version"
ID = "workflows.dagengine.dev/id"


@pytest.fixture
async def objects(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def annotated(made: dict[str, Any], **annotations: str) -> dict[str, Any]:
    made["metadata"]["annotations"] |= {f"workflows.dagengine.dev/{name}": text for name, text in annotations.items()}
    return made


async def versions(objects: World, workflow: str) -> list[str]:
    try:
        return (await objects.orchestrator.workflow(workflow)).versions
    except NotFound:
        return []


async def test_what_is_applied_is_registered_and_ready(objects: World) -> None:
    await objects.lead()
    made = annotated(workflow("hello"), name="Hello", description="Greets.")
    made["metadata"]["labels"] = {"team": "data"}
    objects.api.create(made)
    await objects.until(lambda: objects.workflow("hello").get("Ready", {}).get("status") == "True")
    status = objects.workflow("hello")
    there = await objects.orchestrator.workflow("hello@1.0.0")
    assert (there.name, there.description, there.labels) == ("Hello", "Greets.", {"team": "data"})
    assert (status["id"], status["version"], status["digest"]) == ("hello", "1.0.0", there.digest)
    assert status["observedGeneration"] == status["Registered"]["observedGeneration"] == 1
    assert (status["Registered"]["status"], status["Registered"]["reason"]) == ("True", "Registered")
    assert objects.api.get(WORKFLOWS, "hello")["metadata"]["finalizers"] == [FINALIZER]


async def test_an_object_and_a_document_mean_the_same_version(objects: World) -> None:
    made = annotated(workflow("hello"), name="Hello")
    first = await objects.orchestrator.apply(document.from_dict(made))
    await objects.lead()
    objects.api.create(made)
    assert (await objects.registered("hello"))["digest"] == first.digest
    assert await versions(objects, "hello") == ["1.0.0"]


async def test_a_wrong_document_is_told_with_all_its_problems_until_it_is_right(objects: World) -> None:
    await objects.lead()
    made = workflow("hello", "one", code="return (")
    made["spec"]["nodes"].append({"id": "b", "dependencies": ["c"], "executor": {"type": "lua", "code": "return 1"}})
    objects.api.create(made)
    await objects.until(lambda: "Registered" in objects.workflow("hello"))
    status = objects.workflow("hello")
    told = status["Registered"]
    assert (told["status"], told["reason"]) == ("False", "SpecInvalid")
    assert told["message"].splitlines()[0] == "the workflow document has 3 problems:"
    for path in (f'metadata.annotations["{VERSION}"]', "spec.nodes[0].executor.code", "spec.nodes[1].dependencies[0]"):
        assert f"\n- {path}: " in told["message"]
    assert (status["Ready"]["status"], status["Ready"]["reason"]) == ("False", "NotRegistered")
    assert "version" not in status

    right = workflow("hello")
    objects.api.patch(WORKFLOWS, "hello", {"spec": right["spec"], "metadata": right["metadata"]})
    assert (await objects.registered("hello"))["Registered"]["status"] == "True"
    assert objects.workflow("hello")["observedGeneration"] == 2


async def test_a_version_is_registered_once_and_the_next_one_beside_it(objects: World) -> None:
    await objects.lead()
    objects.api.create(workflow("hello"))
    first = await objects.registered("hello")
    objects.api.patch(WORKFLOWS, "hello", {"spec": workflow("hello", code="return 2")["spec"]})
    await objects.until(lambda: objects.workflow("hello")["Registered"]["status"] == "False")
    status = objects.workflow("hello")
    assert status["Registered"]["reason"] == "VersionConflict"
    assert "1.0.0" in status["Registered"]["message"]
    assert (status["version"], status["digest"]) == (first["version"], first["digest"])
    assert status["Ready"]["status"] == "True"

    objects.api.patch(WORKFLOWS, "hello", {"metadata": {"annotations": {VERSION: "1.1.0"}}})
    status = await objects.registered("hello", "1.1.0")
    assert status["Registered"]["status"] == "True"
    assert status["digest"] != first["digest"]
    assert await versions(objects, "hello") == ["1.1.0", "1.0.0"]


async def test_tools_may_change_labels_and_annotations_of_a_registered_version(objects: World) -> None:
    await objects.lead()
    objects.api.create(workflow("hello"))
    first = await objects.registered("hello")
    metadata = {"labels": {"helm.sh/chart": "ours-2"}, "annotations": {"argocd.argoproj.io/tracking-id": "x"}}
    objects.api.patch(WORKFLOWS, "hello", {"metadata": metadata})
    await objects.until(lambda: "labels" in objects.workflow("hello")["Registered"]["message"])
    status = objects.workflow("hello")
    assert status["Registered"]["status"] == "True"
    assert status["Registered"]["lastTransitionTime"] == first["Registered"]["lastTransitionTime"]
    assert (await objects.orchestrator.workflow("hello")).digest == first["digest"]


async def test_notes_of_kubectl_are_no_part_of_the_workflow(objects: World) -> None:
    await objects.lead()
    made = workflow("hello")
    made["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = "{}"
    objects.api.create(made)
    status = await objects.registered("hello")
    assert status["digest"] == document.from_dict(workflow("hello")).digest


async def test_an_object_stays_with_its_workflow(objects: World) -> None:
    await objects.lead()
    objects.api.create(annotated(workflow("hello"), id="Hello_World"))
    assert (await objects.registered("hello"))["id"] == "Hello_World"
    objects.api.patch(WORKFLOWS, "hello", {"metadata": {"annotations": {ID: "Other"}}})
    await objects.until(lambda: objects.workflow("hello")["Registered"]["reason"] == "IdChanged")
    assert "'Hello_World'" in objects.workflow("hello")["Registered"]["message"]
    assert await versions(objects, "Other") == []
    objects.api.delete(WORKFLOWS, "hello")
    await objects.until(lambda: not objects.has("workflows", "hello"))
    assert await versions(objects, "Hello_World") == []


async def test_it_is_ready_while_an_engine_could_run_it(tmp_path: Path) -> None:
    async with world(tmp_path, engine=False) as objects:
        await objects.lead()
        objects.api.create(workflow("hello"))
        await objects.until(lambda: objects.workflow("hello").get("Ready", {}).get("reason") == "NoEngine")
        first = objects.workflow("hello")
        assert first["Ready"]["message"] == "no engine is connected and ready"
        objects.orchestrator.register_engine("engine-1", DAGEngine())
        await objects.until(lambda: objects.workflow("hello")["Ready"]["status"] == "True")
        status = objects.workflow("hello")
        assert status["Ready"]["reason"] == "EngineAvailable"
        assert status["Registered"] == first["Registered"]
        shell = workflow("shell")
        shell["spec"]["nodes"][0]["executor"] = {"type": "shell", "command": ["true"]}
        objects.api.create(shell)
        await objects.until(lambda: objects.workflow("shell").get("Ready", {}).get("reason") == "NoExecutor")
        assert objects.workflow("shell")["Ready"]["message"] == "no engine has the executor 'shell'"


async def test_the_last_execution_is_told_whoever_started_it(objects: World) -> None:
    await objects.lead()
    objects.api.create(waiting_workflow("hold"))
    await objects.registered("hold")
    view = await objects.orchestrator.start("hold")
    await objects.until(lambda: objects.workflow("hold").get("lastExecution", {}).get("phase") == "Running")
    await objects.orchestrator.signal(view.id, "go", 1)
    await objects.until(lambda: objects.workflow("hold")["lastExecution"]["phase"] == "Succeeded")
    last = objects.workflow("hold")["lastExecution"]
    assert last["id"] == view.id
    assert last["startedAt"] <= last["finishedAt"]


async def test_deleting_the_object_removes_the_workflow_and_lets_what_runs_run(objects: World) -> None:
    await objects.lead()
    objects.api.create(waiting_workflow("hold"))
    await objects.registered("hold")
    view = await objects.orchestrator.start("hold")
    objects.api.delete(WORKFLOWS, "hold")
    await objects.until(lambda: not objects.has("workflows", "hold"))
    assert await versions(objects, "hold") == []
    await objects.orchestrator.signal(view.id, "go", 1)
    assert (await objects.orchestrator.wait(view.id, timeout=20)).status == "succeeded"


async def test_an_object_that_was_deleted_while_nobody_led_goes_with_its_workflow(objects: World) -> None:
    await objects.lead()
    objects.api.create(workflow("hello"))
    await objects.registered("hello")
    await objects.step_down()
    objects.api.delete(WORKFLOWS, "hello")
    assert objects.has("workflows", "hello")
    await objects.lead()
    await objects.until(lambda: not objects.has("workflows", "hello"))
    assert await versions(objects, "hello") == []


async def test_a_workflow_stays_while_another_object_stands_for_it(objects: World) -> None:
    await objects.lead()
    for name in ("one", "two"):
        objects.api.create(annotated(workflow(name), id="Shared"))
        await objects.registered(name)
    objects.api.delete(WORKFLOWS, "one")
    await objects.until(lambda: not objects.has("workflows", "one"))
    assert await versions(objects, "Shared") == ["1.0.0"]
    objects.api.delete(WORKFLOWS, "two")
    await objects.until(lambda: not objects.has("workflows", "two"))
    assert await versions(objects, "Shared") == []


@pytest.mark.parametrize("other", ["wrong", "conflict", "changed"])
async def test_an_object_that_registered_nothing_of_a_workflow_does_not_keep_it(objects: World, other: str) -> None:
    await objects.lead()
    objects.api.create(workflow("hello"))
    await objects.registered("hello")
    if other == "changed":
        objects.api.create(workflow("other"))
        await objects.registered("other")
        objects.api.patch(WORKFLOWS, "other", annotated({"metadata": {"annotations": {}}}, id="hello"))
    else:
        code = {"wrong": "return (", "conflict": "return 2"}[other]
        objects.api.create(annotated(workflow("other", code=code), id="hello"))
    await objects.until(lambda: objects.workflow("other").get("Registered", {}).get("status") == "False")
    objects.api.delete(WORKFLOWS, "hello")
    await objects.until(lambda: not objects.has("workflows", "hello"))
    if other == "conflict":  # nothing is in its way any more
        objects.api.faults.expire()
        await objects.registered("other")
    else:
        assert await versions(objects, "hello") == []
    if other == "changed":
        assert await versions(objects, "other") == ["1.0.0"]


async def test_an_object_that_never_registered_anything_removes_nothing(objects: World) -> None:
    await objects.orchestrator.apply(document.from_dict(workflow("hello")))
    await objects.lead()
    objects.api.create(workflow("hello", code="return 2"))
    await objects.until(lambda: objects.workflow("hello").get("Registered", {}).get("reason") == "VersionConflict")
    objects.api.delete(WORKFLOWS, "hello")
    await objects.until(lambda: not objects.has("workflows", "hello"))
    assert await versions(objects, "hello") == ["1.0.0"]


async def test_what_was_registered_before_a_crash_is_removed_although_no_status_says_so(objects: World) -> None:
    held = objects.api.faults.hold("patch workflows/status")
    await objects.lead()
    objects.api.create(workflow("hello"))
    await held.arrived.wait()
    await objects.step_down()
    objects.api.faults.clear()
    assert await versions(objects, "hello") == ["1.0.0"]
    objects.api.delete(WORKFLOWS, "hello")
    await objects.lead()
    await objects.until(lambda: not objects.has("workflows", "hello"))
    assert await versions(objects, "hello") == []


async def test_what_somebody_removed_elsewhere_is_registered_again(objects: World) -> None:
    await objects.lead()
    objects.api.create(workflow("hello"))
    await objects.registered("hello")
    await objects.orchestrator.delete_workflow("hello")
    objects.api.faults.expire()
    objects.api.create(execution("run", "hello"))
    assert (await objects.finished("run"))["phase"] == "Succeeded"


async def test_a_conflict_is_over_when_the_other_version_is_gone(objects: World) -> None:
    await objects.orchestrator.apply(document.from_dict(workflow("hello")))
    await objects.lead()
    objects.api.create(workflow("hello", code="return 2"))
    await objects.until(lambda: objects.workflow("hello").get("Registered", {}).get("reason") == "VersionConflict")
    await objects.orchestrator.delete_workflow("hello")
    objects.api.faults.expire()
    assert (await objects.registered("hello"))["Registered"]["status"] == "True"


async def test_a_status_is_written_only_when_it_says_something_else(objects: World) -> None:
    await objects.lead()
    objects.api.create(workflow("hello"))
    await objects.until(lambda: objects.workflow("hello").get("Ready", {}).get("status") == "True")
    writes = len(objects.api.asked("patch workflows/status"))
    for _ in range(3):
        lists = len(objects.api.asked("list workflows"))
        objects.api.faults.expire()
        await objects.api.seen("list workflows", lists + 1)
    objects.api.create(workflow("other"))
    await objects.registered("other")
    assert [call.name for call in objects.api.asked("patch workflows/status")[writes:]] == ["other"]


async def test_a_new_version_is_told_although_telling_fails_at_first(objects: World) -> None:
    await objects.lead()
    objects.api.create(workflow("hello"))
    await objects.registered("hello")
    objects.api.faults.conflict("patch workflows/status", times=5)
    objects.api.patch(WORKFLOWS, "hello", workflow("hello", "2.0.0", code="return 2"))
    status = await objects.registered("hello", "2.0.0")
    assert status["Registered"]["message"] == "hello@2.0.0 is registered"


async def test_a_new_leader_gives_engines_the_time_to_connect(objects: World) -> None:
    await objects.lead()
    objects.api.create(workflow("hello"))
    await objects.until(lambda: objects.workflow("hello").get("Ready", {}).get("status") == "True")
    await objects.step_down()
    await objects.orchestrator.unregister_engine("engine-1")
    clock = await objects.lead()
    begun = clock.now()
    await objects.until(lambda: objects.workflow("hello")["Ready"]["status"] == "False")
    assert clock.now() - begun >= 10_000_000


async def test_what_is_wrong_with_the_api_is_told(objects: World) -> None:
    await objects.lead()
    objects.api.create(workflow("hello"))
    await objects.registered("hello")
    assert objects.trouble == ""
    objects.api.faults.forbid("list workflows")
    objects.api.faults.forbid("watch workflows")
    objects.api.faults.cut_watches()
    await objects.troubled()
    assert "workflows" in objects.trouble
    objects.api.faults.clear()
    objects.api.create(workflow("again"))
    await objects.registered("again")
    assert objects.trouble == ""
