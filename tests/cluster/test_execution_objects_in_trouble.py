"""Execution objects when things break: leaders, watches, the API itself. Nothing is lost, nothing is started twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes_workflow_objects import World, execution, waiting_workflow, workflow, world

from orchestrator.kubernetes.base import EXECUTIONS


@pytest.fixture
async def objects(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def started(objects: World) -> list[Any]:
    """All executions that there are."""
    return (await objects.orchestrator.executions()).items


async def phase(objects: World, name: str, wanted: str) -> dict[str, Any]:
    await objects.until(lambda: objects.execution(name).get("phase") == wanted)
    return objects.execution(name)


async def test_what_happens_while_nobody_leads_is_not_missed(objects: World) -> None:
    await objects.lead()
    objects.api.create(waiting_workflow("hold"))
    for name in ("deleted", "done"):
        objects.api.create(execution(name, "hold"))
        await phase(objects, name, "Running")
    ids = {name: objects.execution(name)["executionId"] for name in ("deleted", "done")}
    await objects.step_down()
    objects.api.delete(EXECUTIONS, "deleted")
    objects.api.create(execution("new", "hold"))
    await objects.orchestrator.signal(ids["done"], "go", 1)
    await objects.orchestrator.wait(ids["done"], timeout=20)
    await objects.lead()
    assert (await objects.finished("done"))["phase"] == "Succeeded"
    await objects.until(lambda: not objects.has("executions", "deleted"))
    assert (await objects.orchestrator.execution(ids["deleted"])).status == "cancelled"
    await phase(objects, "new", "Running")
    assert len(await started(objects)) == 3


@pytest.mark.parametrize("fault", ["cut", "hold"])
async def test_a_crash_between_the_start_and_its_status_starts_nothing_twice(objects: World, fault: str) -> None:
    await objects.lead()
    objects.api.create(waiting_workflow("hold"))
    await objects.registered("hold")
    made = getattr(objects.api.faults, fault)("patch executions/status", times=None)
    objects.api.create(execution("run", "hold"))
    await made.arrived.wait()
    await objects.step_down()
    assert len(await started(objects)) == 1
    objects.api.faults.clear()
    await objects.lead()
    status = await phase(objects, "run", "Running")
    (view,) = await started(objects)
    assert status["executionId"] == view.id


async def test_what_was_started_before_a_crash_is_cancelled_although_no_status_names_it(objects: World) -> None:
    await objects.lead()
    objects.api.create(waiting_workflow("hold"))
    await objects.registered("hold")
    held = objects.api.faults.hold("patch executions/status")
    objects.api.create(execution("run", "hold"))
    await held.arrived.wait()
    await objects.step_down()
    objects.api.faults.clear()
    objects.api.delete(EXECUTIONS, "run")
    await objects.lead()
    await objects.until(lambda: not objects.has("executions", "run"))
    (view,) = await started(objects)
    assert view.status == "cancelled"


@pytest.mark.parametrize("crash", [True, False])
async def test_another_workflow_in_the_spec_starts_nothing_twice(objects: World, crash: bool) -> None:
    await objects.lead()
    for name in ("hold", "other"):
        objects.api.create(waiting_workflow(name))
        await objects.registered(name)
    held = objects.api.faults.hold("patch executions/status")
    objects.api.create(execution("run", "hold"))
    await held.arrived.wait()
    if crash:
        await objects.step_down()
    objects.api.patch(EXECUTIONS, "run", {"spec": {"workflow": "other"}})
    objects.api.faults.clear()
    if crash:
        await objects.lead()
    await objects.until(lambda: objects.execution("run").get("observedGeneration") == 2)
    (view,) = await started(objects)
    assert objects.execution("run")["executionId"] == view.id
    objects.api.delete(EXECUTIONS, "run")
    await objects.until(lambda: not objects.has("executions", "run"))
    assert (await objects.orchestrator.execution(view.id)).status == "cancelled"


async def test_another_workflow_in_the_spec_is_started_where_none_was(objects: World) -> None:
    await objects.lead()
    objects.api.create(waiting_workflow("hold"))
    objects.api.create(execution("run", "hold", ttl="9999999h"))
    await phase(objects, "run", "Refused")
    objects.api.patch(EXECUTIONS, "run", {"spec": {"workflow": "hello", "ttl": None}})
    await phase(objects, "run", "Pending")
    objects.api.create(workflow("hello"))
    assert (await objects.finished("run"))["workflow"] == "hello@1.0.0"
    assert len(await started(objects)) == 1


@pytest.mark.parametrize("status", [413, 422, 500])
async def test_an_object_whose_status_is_refused_can_be_deleted(objects: World, status: int) -> None:
    await objects.lead()
    objects.api.create(waiting_workflow("hold"))
    for name in ("deleted", "ended"):
        objects.api.create(execution(name, "hold"))
        await phase(objects, name, "Running")
    ids = {name: objects.execution(name)["executionId"] for name in ("deleted", "ended")}
    objects.api.faults.fail("patch executions/status", status=status, times=None)
    await objects.orchestrator.signal(ids["ended"], "go", 1)
    await objects.until(lambda: not objects.api.get(EXECUTIONS, "ended")["metadata"].get("finalizers"))
    objects.api.delete(EXECUTIONS, "deleted")
    await objects.until(lambda: not objects.has("executions", "deleted"))
    assert (await objects.orchestrator.execution(ids["deleted"])).status == "cancelled"
    objects.api.faults.clear()
    assert (await objects.finished("ended"))["phase"] == "Succeeded"


async def test_an_object_of_the_same_name_is_another_one(objects: World) -> None:
    await objects.lead()
    objects.api.create(workflow("hello"))
    objects.api.create(execution("run", "hello"))
    first = (await objects.finished("run"))["executionId"]
    objects.api.delete(EXECUTIONS, "run")
    await objects.until(lambda: not objects.has("executions", "run"))
    objects.api.create(execution("run", "hello"))
    assert (await objects.finished("run"))["executionId"] != first
    assert len(await started(objects)) == 2


async def test_a_storm_of_conflicts_passes(objects: World) -> None:
    await objects.lead()
    objects.api.faults.conflict("patch workflows", times=6)
    objects.api.faults.conflict("patch executions", times=6)
    objects.api.faults.conflict("patch executions/status", times=6)
    objects.api.faults.conflict("patch workflows/status", times=6)
    objects.api.create(waiting_workflow("hold"))
    objects.api.create(execution("run", "hold"))
    await phase(objects, "run", "Running")
    for number in range(20):
        objects.api.patch(EXECUTIONS, "run", {"metadata": {"labels": {"number": str(number)}}})
    await objects.orchestrator.signal(objects.execution("run")["executionId"], "go", 1)
    assert (await objects.finished("run"))["phase"] == "Succeeded"
    assert len(await started(objects)) == 1


async def test_nothing_is_lost_while_the_api_is_away(objects: World) -> None:
    await objects.lead()
    objects.api.create(waiting_workflow("hold"))
    for name in ("one", "two"):
        objects.api.create(execution(name, "hold"))
        await phase(objects, name, "Running")
    ids = {name: objects.execution(name)["executionId"] for name in ("one", "two")}
    objects.api.faults.down()
    await objects.orchestrator.signal(ids["one"], "go", 1)
    await objects.orchestrator.wait(ids["one"], timeout=20)
    objects.api.delete(EXECUTIONS, "two")
    objects.api.create(execution("three", "hold"))
    assert (await objects.orchestrator.execution(ids["two"])).status == "running"
    objects.api.faults.up()
    assert (await objects.finished("one"))["phase"] == "Succeeded"
    await objects.until(lambda: not objects.has("executions", "two"))
    await phase(objects, "three", "Running")
    assert len(await started(objects)) == 3


@pytest.mark.parametrize("fault", ["cut_watches", "end_watches", "expire"])
async def test_a_watch_that_ends_is_begun_again(objects: World, fault: str) -> None:
    await objects.lead()
    await objects.api.seen("watch executions")
    objects.api.create(workflow("hello"))
    for number in range(5):
        getattr(objects.api.faults, fault)()
        objects.api.create(execution(f"run-{number}", "hello"))
    for number in range(5):
        assert (await objects.finished(f"run-{number}"))["phase"] == "Succeeded"
    assert len(await started(objects)) == 5


async def test_an_api_that_does_not_let_us_is_asked_again(objects: World) -> None:
    objects.api.faults.forbid("list executions", times=3)
    objects.api.faults.fail("patch executions/status", status=429, times=2, retry_after=1)
    objects.api.faults.fail("patch executions", status=500, times=2)
    await objects.lead()
    objects.api.create(workflow("hello"))
    objects.api.create(execution("run", "hello"))
    assert (await objects.finished("run"))["phase"] == "Succeeded"


async def test_an_execution_that_is_gone_is_not_started_again(objects: World) -> None:
    await objects.lead()
    objects.api.create(workflow("hello"))
    objects.api.create(execution("run", "hello"))
    before = await objects.finished("run")
    await objects.orchestrator.purge(older_than=0)
    assert await started(objects) == []
    objects.api.faults.expire()
    objects.api.create(execution("next", "hello"))
    await objects.finished("next")
    assert objects.execution("run") == before
    assert len(await started(objects)) == 1


async def test_an_execution_that_the_store_has_lost_is_told_as_such(objects: World) -> None:
    await objects.lead()
    objects.api.create(waiting_workflow("hold"))
    objects.api.create(execution("run", "hold"))
    known = (await phase(objects, "run", "Running"))["executionId"]
    await objects.step_down()
    objects.api.patch(EXECUTIONS, "run", {"status": {"executionId": "01-unknown"}}, subresource="status")
    await objects.lead()
    status = await objects.finished("run")
    assert (status["phase"], status["error"]["type"], status["Finished"]["reason"]) == ("Failed", "Lost", "Lost")
    assert [view.id for view in await started(objects)] == [known]


async def test_where_the_kinds_are_not_installed_nothing_is_done_until_they_are(tmp_path: Path) -> None:
    async with world(tmp_path, installed=False) as objects:
        await objects.lead()
        await objects.off()
        objects.install()
        objects.api.create(workflow("hello"))
        objects.api.create(execution("run", "hello"))
        assert (await objects.finished("run"))["phase"] == "Succeeded"
