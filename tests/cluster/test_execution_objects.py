"""Execution objects: creating one starts an execution, its status follows that to the end, deleting it cancels."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_workflow_objects import HastyClock, World, execution, waiting_workflow, workflow, world

from orchestrator.controller import conditions
from orchestrator.controller.executions import FINALIZER
from orchestrator.kubernetes.base import EXECUTIONS, WORKFLOWS

GREETING = {"inputs": {"name": {"type": "string"}, "times": {"type": "integer", "default": 1}}}


@pytest.fixture
async def objects(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def greeting(name: str = "greet") -> dict[str, Any]:
    return workflow(
        name,
        code="return inputs.name:rep(inputs.times)",
        outputs={"text": "{{ nodes.greet }}", "nothing": None, "some": [None, 1]},
        **GREETING,
    )


async def started(objects: World) -> list[Any]:
    """All executions that there are."""
    return (await objects.orchestrator.executions()).items


async def phase(objects: World, name: str, wanted: str) -> dict[str, Any]:
    await objects.until(lambda: objects.execution(name).get("phase") == wanted)
    return objects.execution(name)


async def test_an_object_runs_a_workflow_and_tells_what_came_out(objects: World) -> None:
    await objects.lead()
    objects.api.create(greeting())
    await objects.registered("greet")
    objects.api.create(execution("run", "greet@^1", {"name": "Ada", "times": 2}, priority=7))
    status = await objects.finished("run")
    (view,) = await started(objects)
    view = await objects.orchestrator.execution(view.id)
    assert (view.trigger, view.priority, view.inputs) == ("kubernetes", 7, {"name": "Ada", "times": 2})
    assert status["executionId"] == view.id
    assert (status["workflow"], status["phase"], status["progress"]) == ("greet@1.0.0", "Succeeded", "1/1")
    assert status["outputs"] == {"text": "AdaAda", "some": [None, 1]}
    assert (status["startedAt"], status["finishedAt"]) == (
        conditions.instant(view.started_at or 0),
        conditions.instant(view.finished_at or 0),
    )
    assert {kind: status[kind]["status"] for kind in ("Started", "Finished", "Succeeded")} == {
        "Started": "True",
        "Finished": "True",
        "Succeeded": "True",
    }
    await objects.until(lambda: not objects.api.get(EXECUTIONS, "run")["metadata"].get("finalizers"))
    objects.api.delete(EXECUTIONS, "run")
    assert not objects.has("executions", "run")


async def test_a_failure_is_told(objects: World) -> None:
    await objects.lead()
    objects.api.create(workflow("broken", code="error('no such thing')"))
    objects.api.create(execution("run", "broken"))
    status = await objects.finished("run")
    assert (status["phase"], status["progress"]) == ("Failed", "1/1")
    assert "outputs" not in status
    assert "greet" in status["error"]["message"]
    assert (status["Succeeded"]["status"], status["Finished"]["reason"]) == ("False", "Failed")
    assert status["Finished"]["message"] == status["error"]["message"]


async def test_what_runs_is_told_node_by_node(objects: World) -> None:
    await objects.lead()
    objects.api.create(waiting_workflow("hold"))
    objects.api.create(execution("run", "hold"))
    await objects.until(lambda: objects.execution("run").get("progress") == "1/3")
    status = objects.execution("run")
    assert (status["phase"], status["Finished"]["status"], status["Succeeded"]["status"]) == (
        "Running",
        "False",
        "Unknown",
    )
    await objects.orchestrator.signal(status["executionId"], "go", {"paid": 12})
    status = await objects.finished("run")
    assert (status["phase"], status["progress"]) == ("Succeeded", "3/3")
    assert status["outputs"] == {"end": {"paid": 12}}


async def test_a_start_that_makes_no_sense_is_refused_until_the_object_is_another(objects: World) -> None:
    await objects.lead()
    objects.api.create(greeting())
    await objects.registered("greet")
    objects.api.create(execution("run", "greet", {"name": 5, "nmae": "x"}))
    status = await phase(objects, "run", "Refused")
    told = status["Started"]
    assert (told["status"], told["reason"]) == ("False", "InputsInvalid")
    assert "\n- inputs.name: " in told["message"]
    assert "\n- inputs.nmae: " in told["message"]
    assert (status["Finished"]["status"], status["Succeeded"]["status"]) == ("True", "False")
    assert not objects.api.get(EXECUTIONS, "run")["metadata"].get("finalizers")
    objects.api.patch(EXECUTIONS, "run", {"spec": {"inputs": {"name": "Ada", "nmae": None}}})
    await phase(objects, "run", "Succeeded")
    assert objects.execution("run")["Started"]["status"] == "True"
    assert len(await started(objects)) == 1


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"workflow": "greet@one"}, "'one' does not name versions"),
        ({"workflow": "greet", "ttl": "9999999h"}, "spec.ttl: "),
    ],
)
async def test_a_spec_that_cannot_be_read_is_refused(objects: World, spec: dict[str, Any], words: str) -> None:
    await objects.lead()
    objects.api.create(workflow("greet"))
    await objects.registered("greet")
    objects.api.create({**execution("run", "greet"), "spec": spec})
    status = await phase(objects, "run", "Refused")
    assert status["Started"]["reason"] == "SpecInvalid"
    assert words in status["Started"]["message"]
    assert await started(objects) == []


async def test_an_object_waits_for_its_workflow(objects: World) -> None:
    await objects.lead()
    objects.api.create(execution("run", "hello"))
    status = await phase(objects, "run", "Pending")
    assert (status["Started"]["reason"], status["Finished"]["status"]) == ("WorkflowNotFound", "False")
    assert "hello" in status["Started"]["message"]
    objects.api.create(workflow("hello"))
    await phase(objects, "run", "Succeeded")


async def test_what_a_workflow_skips_is_refused_for_good(objects: World) -> None:
    await objects.lead()
    made = waiting_workflow("hold")
    made["spec"]["concurrency"] = {"max": 1, "on_conflict": "skip"}
    objects.api.create(made)
    objects.api.create(execution("first", "hold"))
    await phase(objects, "first", "Running")
    objects.api.create(execution("second", "hold"))
    assert (await phase(objects, "second", "Refused"))["Started"]["reason"] == "AtLimit"
    await objects.orchestrator.signal(objects.execution("first")["executionId"], "go", 1)
    await objects.finished("first")
    objects.api.faults.expire()
    objects.api.create(execution("third", "hold"))
    await phase(objects, "third", "Running")
    assert objects.execution("second")["phase"] == "Refused"


async def test_why_nothing_runs_is_told(tmp_path: Path) -> None:
    async with world(tmp_path, engine=False) as objects:
        await objects.lead()
        objects.api.create(workflow("hello"))
        objects.api.create(execution("run", "hello"))
        status = await phase(objects, "run", "Queued")
        await objects.until(lambda: objects.execution("run")["Finished"]["reason"] == "NoEngine")
        assert objects.execution("run")["Finished"]["message"] == "no engine is connected and ready"
        assert "progress" not in status


async def test_deleting_the_object_cancels_and_it_goes_when_that_has_ended(objects: World) -> None:
    await objects.lead()
    made = waiting_workflow("hold")
    made["spec"]["on_exit"] = [{"id": "bye", "executor": {"type": "wait", "signal": {"name": "bye"}}}]
    objects.api.create(made)
    objects.api.create(execution("run", "hold"))
    status = await phase(objects, "run", "Running")
    objects.api.delete(EXECUTIONS, "run")
    await phase(objects, "run", "Cancelling")
    assert objects.api.get(EXECUTIONS, "run")["metadata"]["finalizers"] == [FINALIZER]
    await objects.orchestrator.signal(status["executionId"], "bye")
    await objects.until(lambda: not objects.has("executions", "run"))
    view = await objects.orchestrator.execution(status["executionId"])
    assert (view.status, view.reason) == ("cancelled", "its Execution object was deleted")


async def test_a_cancel_from_elsewhere_is_told(objects: World) -> None:
    await objects.lead()
    objects.api.create(waiting_workflow("hold"))
    objects.api.create(execution("run", "hold"))
    status = await phase(objects, "run", "Running")
    await objects.orchestrator.cancel(status["executionId"], reason="not today", author="ada")
    status = await objects.finished("run")
    assert (status["phase"], status["Succeeded"]["status"]) == ("Cancelled", "False")
    assert status["Finished"]["message"] == "not today"


async def test_outputs_that_are_too_large_stay_where_they_are(objects: World) -> None:
    await objects.lead()
    objects.api.create(workflow("large", code="return ('x'):rep(70000)"))
    objects.api.create(execution("run", "large"))
    status = await objects.finished("run")
    assert "outputs" not in status
    assert status["Finished"]["message"] == (
        "its outputs take 70,012 bytes, more than a status has room for: "
        f"`dagctl describe execution {status['executionId']}` prints them"
    )


async def test_an_object_is_deleted_some_time_after_the_end(objects: World) -> None:
    await objects.lead()
    objects.api.create(workflow("hello"))
    objects.api.create(execution("run", "hello", ttl="20s"))
    objects.api.create(execution("stays", "hello"))
    status = await objects.finished("run")
    await objects.finished("stays")
    await objects.until(lambda: not objects.has("executions", "run"))
    assert objects.has("executions", "stays")
    assert (await objects.orchestrator.execution(status["executionId"])).status == "succeeded"


async def test_parts_that_run_again_are_seen_at_the_next_full_look(objects: World) -> None:
    await objects.lead()
    objects.api.create(workflow("broken", code="error('no')"))
    objects.api.create(execution("run", "broken"))
    first = await objects.finished("run")
    await objects.orchestrator.retry(first["executionId"])
    again = await objects.orchestrator.wait(first["executionId"], timeout=20)
    assert again.status == "failed"

    def later() -> bool:
        objects.api.faults.expire()
        finished = objects.execution("run").get("finishedAt")
        return finished is not None and finished >= conditions.instant(again.finished_at or 0)

    await objects.until(later)


async def test_a_status_is_written_at_most_once_a_second(objects: World, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = HastyClock()
    written: list[int] = []
    await objects.lead()
    made = workflow("many")
    names = [f"n{number}" for number in range(40)]
    for before, name in itertools.pairwise(names):
        made["spec"]["nodes"].append(
            {
                "id": name,
                "dependencies": [before] if before != "n0" else [],
                "executor": {"type": "wait", "duration": "5ms"},
            }
        )
    objects.api.create(made)
    await objects.registered("many")
    noted = objects.api.noted

    def note(call: Any) -> None:
        if call.resource == "executions/status" and call.status == 200:
            written.append(clock.now())
        noted(call)

    monkeypatch.setattr(objects.api, "noted", note)
    objects.api.create(execution("run", "many"))
    assert (await objects.finished("run"))["progress"] == "40/40"
    gaps = [(after - before) / 1e6 for before, after in itertools.pairwise(written)]
    assert len(written) >= 3
    assert min(gaps) >= 1


async def test_hundreds_of_objects_are_no_trouble(objects: World) -> None:
    for number in range(100):
        objects.api.create(workflow(f"w{number}"))
        for run in "ab":
            objects.api.create(execution(f"run-{number}-{run}", f"w{number}"))
    await objects.lead()
    for number in range(100):
        for run in "ab":
            assert (await objects.finished(f"run-{number}-{run}"))["phase"] == "Succeeded"
    assert {view.status for view in (await objects.orchestrator.executions(limit=500)).items} == {"succeeded"}
    assert len((await objects.orchestrator.executions(limit=500)).items) == 200
    await objects.until(
        lambda: all(objects.workflow(f"w{number}").get("lastExecution", {}).get("phase") for number in range(100))
    )
    writes = objects.api.asked("patch executions/status")
    assert len(writes) <= 5 * 200


async def test_the_calls_are_these_and_no_others(objects: World) -> None:
    await objects.lead()
    objects.api.create(waiting_workflow("hold"))
    objects.api.create(execution("run", "hold", ttl=1))
    await phase(objects, "run", "Running")
    await objects.orchestrator.signal(objects.execution("run")["executionId"], "go", 1)
    await objects.until(lambda: not objects.has("executions", "run"))
    objects.api.delete(WORKFLOWS, "hold")
    await objects.until(lambda: not objects.has("workflows", "hold"))
    calls = {(verb, resource) for user, verb, group, resource, _ in objects.api.calls if user == "orchestrator"}
    assert calls == {
        ("list", "workflows"),
        ("watch", "workflows"),
        ("patch", "workflows"),
        ("patch", "workflows/status"),
        ("list", "executions"),
        ("watch", "executions"),
        ("patch", "executions"),
        ("patch", "executions/status"),
        ("delete", "executions"),
    }
