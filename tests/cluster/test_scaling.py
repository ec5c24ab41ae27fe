"""Scaling a workload of engines through the API: up at once, down by empty engines only, whatever goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from kubernetes_api import KubernetesAPI
from kubernetes_pods import end_pod, run_pod, set_pod
from kubernetes_scaling import COST, DRAIN, world

from orchestrator.dispatcher.demand import Demand, EngineLoad
from orchestrator.dispatcher.placement import Needs

KINDS = pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])


def events(logs: list[structlog.types.EventDict], *names: str) -> list[structlog.types.EventDict]:
    return [entry for entry in logs if entry["event"] in names]


@KINDS
async def test_it_grows_at_once_and_shrinks_by_engines_that_are_empty(
    api: KubernetesAPI, tmp_path: Path, kind: str
) -> None:
    async with world(api, tmp_path, kind) as made:
        made.wait(13)
        await made.lead()
        await api.until(lambda: len(made.pods) == 4)
        made.wait(0)
        first, *others = made.pods if kind == "StatefulSet" else made.pods[::-1]
        made.has = dict.fromkeys(made.pods, 2) | {first: 3}
        await api.until(lambda: len(made.draining) == 1)  # 9 executions, 3 engines
        assert made.size == 4
        assert first not in made.draining
        made.has = {first: 3} | dict.fromkeys(made.draining, 1)
        await api.until(lambda: made.draining == sorted(others))
        await made.looked()
        assert made.size == 4
        assert not made.removed
        made.has = {first: 3}
        await api.until(lambda: made.pods == [first])
        assert made.size == 1
        assert [has for _, has in made.removed] == [0, 0, 0]
        assert not made.draining


async def test_pods_of_a_deployment_that_are_to_go_cost_the_least_and_of_a_stateful_set_nothing_is_said(
    api: KubernetesAPI, tmp_path: Path
) -> None:
    async with world(api, tmp_path, replicas=2) as made:
        made.has = dict.fromkeys(made.pods, 1)
        await made.lead()
        await api.until(lambda: made.draining)
        annotations = api.get("pods", made.draining[0])["metadata"]["annotations"]
        assert (annotations[DRAIN], annotations[COST]) == ("autoscaling", "-1000")
        made.wait(9)
        await api.until(lambda: not made.draining)
        assert all(COST not in api.get("pods", pod)["metadata"]["annotations"] for pod in made.pods)


async def test_no_pod_of_a_stateful_set_is_told_what_it_costs(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path, "StatefulSet", replicas=2) as made:
        made.has = dict.fromkeys(made.pods, 1)
        await made.lead()
        await api.until(lambda: made.draining == ["workflow-engine-1"])
        assert COST not in api.get("pods", "workflow-engine-1")["metadata"]["annotations"]


async def test_it_waits_for_the_cooldown(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path, replicas=3) as made:
        await made.lead("min=1,max=5,target=4,cooldown=1h")
        await made.looked(5)
        assert (made.size, made.draining) == (3, [])


async def test_engines_are_taken_back_when_they_are_needed_again(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path, replicas=3) as made:
        made.has = dict.fromkeys(made.pods, 1)
        with structlog.testing.capture_logs() as logs:
            await made.lead()
            await api.until(lambda: len(made.draining) == 2)
            made.wait(30)
            await api.until(lambda: made.size == 5 and not made.draining)
            await made.looked()
        assert not made.removed
        assert len(events(logs, "engine_drained")) == len(events(logs, "engine_wanted_again")) == 2
        (scaled,) = events(logs, "engines_scaled")
        assert (scaled["before"], scaled["after"]) == (3, 5)
        assert "5 at most" in scaled["reason"]


async def test_what_people_drain_is_left_alone_and_made_up_for(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path, replicas=2) as made:
        theirs, other = made.pods
        api.patch("pods", theirs, {"metadata": {"annotations": {DRAIN: "maintenance"}}})
        made.has = {other: 5}
        await made.lead()
        await made.settled(3)  # two at work, and theirs
        made.has = {}
        await made.settled(2)
        await made.looked()
        assert theirs in made.pods
        assert api.get("pods", theirs)["metadata"]["annotations"][DRAIN] == "maintenance"
        assert COST not in api.get("pods", theirs)["metadata"]["annotations"]


async def test_nobody_is_removed_while_it_is_not_known_where_executions_are(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path, replicas=2) as made:
        for pod in made.pods:
            set_pod(api, pod, ready=False)
        made.lost = 1
        demand = made.demand

        async def nobody_answers() -> object:
            found = await demand()
            return type(found)(engines={"lost": found.engines["lost"]} if made.lost else {}, waiting={})

        made.demand = nobody_answers  # type: ignore[method-assign,assignment]  # no engine has a session
        await made.lead()
        await api.until(lambda: made.draining)
        await made.looked(20)
        assert made.size == 2
        made.lost = 0  # it was placed elsewhere
        await made.settled(1)


async def test_from_nothing_the_first_execution_that_waits_brings_an_engine(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path, replicas=0) as made:
        await made.lead("min=0,max=3,target=4,cooldown=5")
        await made.looked()
        assert made.size == 0
        made.wait(1, Needs(labels=frozenset({("pool", "gpu")})))  # nobody knows yet what these engines can run
        await made.settled(1)
        made.wait(0)
        await made.settled(0)


async def test_what_these_engines_cannot_run_brings_no_more_of_them(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path) as made:
        made.wait(50, Needs(labels=frozenset({("pool", "gpu")})))
        await made.lead()
        await made.looked(5)
        assert made.size == 1
        made.labels = frozenset({("pool", "gpu")})
        await made.settled(5)


async def test_an_exclusive_execution_is_a_whole_engine(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path) as made:
        made.wait(3, Needs(exclusive=True))
        await made.lead()
        await made.settled(3)
        await made.looked()
        assert made.size == 3


async def test_scaling_to_nothing_by_hand_turns_it_off(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path) as made:
        with structlog.testing.capture_logs() as logs:
            await made.lead()
            await made.looked()
            made.scale(0)
            made.wait(10)
            await made.looked(5)
            assert made.size == 0
            made.scale(1)
            await made.settled(3)
        (told,) = events(logs, "autoscaling_blocked")
        assert "turns autoscaling off" in told["reason"]


# --- what goes wrong ---


async def test_whoever_changes_the_workload_meanwhile_is_heeded(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path) as made:
        api.faults.conflict("patch deployments/scale", times=3)
        made.wait(8)
        with structlog.testing.capture_logs() as logs:
            await made.lead()
            await made.settled(2)
            await made.looked()
        assert len(events(logs, "engines_scaled")) == 1
        assert not events(logs, "autoscaling_frozen")
        assert all(
            call.body is not None and "resourceVersion" in str(call.body)
            for call in (*api.asked("patch deployments/scale"), *api.asked("patch pods"))
        )


async def test_conflicts_over_pods_are_looked_at_again(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path, replicas=3) as made:
        api.faults.conflict("patch pods", times=4)
        await made.lead()
        await made.settled(1)
        assert [has for _, has in made.removed] == [0, 0]


async def test_nothing_is_scaled_while_the_api_is_away_and_that_is_said_once(
    api: KubernetesAPI, tmp_path: Path
) -> None:
    async with world(api, tmp_path, replicas=2) as made:
        made.has = dict.fromkeys(made.pods, 1)
        with structlog.testing.capture_logs() as logs:
            await made.lead()
            await api.until(lambda: made.draining)
            assert made.scaler is not None
            api.faults.down()
            made.has = {}
            await made.troubled("not scaled")
            assert made.scaler.level.frozen
            assert made.size == 2
            api.faults.up()
            await made.settled(1)
            await made.looked()
            assert made.scaler.trouble == ""
            assert not made.scaler.level.frozen
        assert len(events(logs, "autoscaling_frozen")) == len(events(logs, "autoscaling_goes_on")) == 1


@pytest.mark.parametrize("match", ["get deployments/scale", "patch deployments/scale", "list pods", "patch pods"])
@pytest.mark.parametrize("status", [500, 503, 504, 429])
async def test_requests_that_fail_are_tried_again(api: KubernetesAPI, tmp_path: Path, match: str, status: int) -> None:
    async with world(api, tmp_path, replicas=3) as made:
        fault = api.faults.fail(match, status=status, times=3)
        await made.lead()
        await api.until(lambda: fault.met == 3)
        await made.settled(1)
        assert [has for _, has in made.removed] == [0, 0]


@pytest.mark.parametrize("match", ["get deployments/scale", "patch deployments/scale", "list pods"])
async def test_what_it_may_not_do_is_said(api: KubernetesAPI, tmp_path: Path, match: str) -> None:
    async with world(api, tmp_path) as made:
        forbidden = api.faults.forbid(match)
        made.wait(20)
        await made.lead()
        await made.troubled(match.partition(" ")[2])
        assert made.scaler is not None
        assert made.scaler.level.frozen
        forbidden.release()
        await made.settled(5)
        await made.looked()
        assert made.scaler.trouble == ""
        assert made.scaler.level.changes == {"up": 1}


@pytest.mark.parametrize("refusal", ["conflict", "forbid"])
async def test_no_pod_that_cannot_be_changed_keeps_it_from_growing(
    api: KubernetesAPI, tmp_path: Path, refusal: str
) -> None:
    async with world(api, tmp_path, replicas=3) as made:
        made.has = dict.fromkeys(made.pods, 1)
        await made.lead()
        await api.until(lambda: len(made.draining) == 2)
        if refusal == "conflict":
            api.faults.conflict("patch pods", times=None)
        else:
            api.faults.forbid("patch pods")
        made.wait(30)
        await made.settled(5)
        api.faults.clear()
        await api.until(lambda: not made.draining)


async def test_pods_that_never_start_neither_make_it_grow_nor_stay(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path) as made:
        (first,) = made.pods
        made.wait(9)
        await made.lead()
        await made.settled(3)
        stuck = [pod for pod in made.pods if pod != first]
        for pod in stuck:  # their image cannot be pulled
            api.patch("pods", pod, {"status": {"podIP": None}}, subresource="status")
            set_pod(api, pod, ready=False, phase="Pending")
        made.has, made.waiting = {first: 4}, {Needs(): 5}
        demand = made.demand

        async def one_answers() -> Demand:
            found = await demand()
            return Demand(engines={first: found.engines[first]}, waiting=found.waiting)

        made.demand = one_answers  # type: ignore[method-assign]  # the others have no session
        await made.looked(10)
        assert (made.size, made.draining) == (3, [])
        made.wait(0)
        await api.until(lambda: made.pods == [first])
        assert [has for _, has in made.removed] == [0, 0]


async def test_where_others_change_the_workload_every_time_that_is_said(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path) as made:
        always = api.faults.conflict("patch deployments/scale", times=None)
        made.wait(8)
        await made.lead()
        await made.troubled("not scaled")
        always.release()
        await made.settled(2)
        await made.looked()
        assert made.scaler is not None
        assert made.scaler.trouble == ""


@pytest.mark.parametrize("owner", ["StatefulSet", "DaemonSet"])
async def test_pods_of_another_workload_with_the_same_labels_are_left_out(
    api: KubernetesAPI, tmp_path: Path, owner: str
) -> None:
    async with world(api, tmp_path, "StatefulSet", replicas=2) as made:
        other = {"apiVersion": "apps/v1", "kind": owner, "metadata": {"name": "other", "uid": "u-1"}}
        theirs = run_pod(api, "other-7", port=made.port("other-7"), labels={"app": "workflow-engine"}, owner=other)
        made.has = {"other-7": 40}
        await made.lead()
        await made.looked()
        assert made.size <= 2  # its executions are no reason for more
        await api.until(lambda: made.pods == ["other-7", "workflow-engine-0"])
        assert made.removed == [("workflow-engine-1", 0)]
        assert api.get("pods", "other-7")["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]


async def test_a_rollout_with_pods_beyond_its_size_makes_it_no_larger(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path, replicas=2) as made:
        await made.lead("min=1,max=5,target=4,cooldown=1h")  # a new leader keeps what is at work
        await made.looked()
        made.controller.close()
        owner = api.get("deployments.apps", "workflow-engine")
        labels = {"app": "workflow-engine", "pod-template-hash": "another"}
        run_pod(api, "workflow-engine-surge", labels=labels, owner=owner, ready=False)
        await made.looked(10)
        assert (made.size, len(made.pods)) == (2, 3)


async def test_an_address_that_a_pod_had_says_nothing_of_it(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path) as made:
        made.controller.close()
        evicted = run_pod(
            api,
            "workflow-engine-evicted",
            labels={"app": "workflow-engine"},
            owner=api.get("deployments.apps", "workflow-engine"),
            phase="Failed",
            ready=False,
            ip="10.9.9.9",
        )
        demand = made.demand

        async def another_has_it() -> Demand:
            found = await demand()
            address = f"{evicted['status']['podIP']}:50051"
            others = EngineLoad(engine="others", address=address, connected=True, executions=40)
            engines = {name: engine for name, engine in found.engines.items() if name in made.pods[:1]}
            return Demand(engines={**engines, "others": others}, waiting={})

        made.demand = another_has_it  # type: ignore[method-assign]  # another workload's engine got that address
        await made.lead()
        await made.looked(5)
        assert made.size == 1


async def test_nothing_is_scaled_while_the_store_is_away(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path) as made:
        made.wait(20)
        made.store_is_away = True
        await made.lead()
        await api.seen("list pods")
        await made.troubled("the store is away")
        assert made.size == 1
        made.store_is_away = False
        await made.settled(5)


async def test_a_workload_that_is_not_there_is_waited_for(api: KubernetesAPI, tmp_path: Path) -> None:
    from kubernetes_scaling import workload

    async with world(api, tmp_path, replicas=-1) as made:
        made.wait(5)
        await made.lead()
        await made.troubled("there is no deployment/workflow-engine")
        api.create(workload())
        await made.settled(2)


async def test_a_workload_that_is_made_anew_with_other_pods_is_followed(api: KubernetesAPI, tmp_path: Path) -> None:
    from kubernetes_scaling import workload

    async with world(api, tmp_path) as made:
        await made.lead()
        await made.looked()
        api.delete("deployments.apps", "workflow-engine")
        other = workload()
        other["spec"]["selector"]["matchLabels"] = other["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
        api.create(other)
        made.wait(5)
        await made.settled(2)
        made.wait(0)
        await made.settled(1)


@KINDS
async def test_another_leader_goes_on_from_the_marks(api: KubernetesAPI, tmp_path: Path, kind: str) -> None:
    async with world(api, tmp_path, kind, replicas=3) as made:
        made.has = dict.fromkeys(made.pods, 1)
        await made.lead()
        await api.until(lambda: len(made.draining) == 2)
        marked = made.draining
        await made.step_down()  # after it has marked them, before it could scale
        made.has = dict.fromkeys(set(made.pods) - set(marked), 1)
        await made.lead("min=1,max=5,target=4,cooldown=1h")  # what has begun does not wait for another cooldown
        await made.settled(1)
        assert sorted(name for name, _ in made.removed) == marked
        assert [has for _, has in made.removed] == [0, 0]


async def test_a_leader_that_ends_in_the_middle_of_its_marks_leaves_nothing_wrong(
    api: KubernetesAPI, tmp_path: Path
) -> None:
    async with world(api, tmp_path, replicas=4) as made:
        held = api.faults.hold("patch pods")
        await made.lead()
        await held.arrived.wait()
        await made.step_down()
        held.release()
        await made.lead()
        await made.settled(1)
        assert [has for _, has in made.removed] == [0, 0, 0]


async def test_a_pod_that_dies_while_it_drains_is_made_up_for_and_drained_again(
    api: KubernetesAPI, tmp_path: Path
) -> None:
    async with world(api, tmp_path, replicas=2) as made:
        made.has = dict.fromkeys(made.pods, 1)
        await made.lead()
        await api.until(lambda: made.draining)
        (dying,) = made.draining
        (staying,) = set(made.pods) - {dying}
        end_pod(api, dying)  # its node is gone; the workload's controller makes another one
        await api.until(lambda: len(made.pods) == 2 and made.draining and dying not in made.pods)
        await api.until(lambda: made.pods == [staying])
        assert made.size == 1
        assert next(has for name, has in made.removed if name != dying) == 0


async def test_what_comes_between_the_marks_and_the_scale_is_seen(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path, replicas=2) as made:
        await made.lead()
        await api.until(lambda: made.draining)
        (marked,) = made.draining
        made.has = {marked: 1}  # sent there by a replica that had not seen the mark yet
        await made.looked(20)
        assert made.size == 2
        made.has = {}
        await made.settled(1)
        assert made.removed == [(marked, 0)]


async def test_it_asks_for_no_more_than_its_rights(api: KubernetesAPI, tmp_path: Path) -> None:
    async with world(api, tmp_path, replicas=2) as made:
        await made.lead()
        await made.settled(1)
        await api.seen("watch pods")
        await made.step_down()
    assert {(verb, group, resource) for _, verb, group, resource, _ in api.calls} == {
        ("get", "apps", "deployments/scale"),
        ("patch", "apps", "deployments/scale"),
        ("list", "", "pods"),
        ("watch", "", "pods"),
        ("patch", "", "pods"),
    }
