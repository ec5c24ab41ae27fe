"""Looks at a workload of engines again and again, and brings it to the size that there is work for.

Run by the replica that leads. Level-triggered: every look reads the workload's scale, its pods and what there is to
run, has `planning` say what to do about it, and does that. What has been begun is in the cluster (marks on pods), so
another leader goes on from there; all that is lost with one is how long less was needed, and that is waited for anew.

**Never on stale knowledge.** A look that cannot read everything does nothing. Pods are changed at the version that was
seen, and so is the scale; before the workload is made smaller, pods and work are read afresh. What somebody else has
changed meanwhile is looked at anew.

What it needs: `get` and `patch` on the scale of the workload; `list`, `watch` and `patch` on pods.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Final

import msgspec
import structlog

from dagengine.clock import Clock
from orchestrator.alarm import Alarm
from orchestrator.discovery import pods as discovered
from orchestrator.dispatcher.demand import Demand
from orchestrator.errors import (
    ClusterConflict,
    ClusterError,
    ClusterNotFound,
    ClusterUnavailable,
    StoreError,
)
from orchestrator.kubernetes.base import PODS, Cluster, Object
from orchestrator.kubernetes.reflector import Reflector
from orchestrator.monitor.counts import Scaled
from orchestrator.scaling import load, planning
from orchestrator.scaling.declared import Autoscaling, Workload
from orchestrator.scaling.load import Load, Offers
from orchestrator.scaling.planning import Plan, Pod, Standing, Window

__all__ = ["COST", "Scaler"]

_log = structlog.get_logger("orchestrator.scaling")

COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_TEMPLATE: Final = "pod-template-hash"

_LOOK: Final = 2_000_000
"""Microseconds between two looks, where no pod changes before that."""
_BREATH: Final = 1_000_000
"""Microseconds between two looks, however much changes."""
_SHARE: Final = 10
"""The store is asked what there is to run for no more than one part of its time in so many."""
_LONGEST_RETRY_AFTER: Final = 60.0
"""Seconds for which the API is let alone when it asks for that."""
_TOO_OFTEN: Final = 10
"""Looks in a row to be overtaken by others, after which that is told."""
_SETTLED: Final = 5_000_000
"""Microseconds after which every replica has seen that a pod is marked, and what it had sent there has arrived."""


class Scaler:
    """Scales one workload. Make a new one for each turn of leading. `port` is that of engines that say no other."""

    def __init__(
        self,
        cluster: Cluster,
        demand: Callable[[], Awaitable[Demand]],
        clock: Clock,
        *,
        workload: Workload,
        bounds: Autoscaling,
        port: int,
        resync: float = 300.0,
    ) -> None:
        """`demand` tells what there is to run (StoreError). All pods are listed anew every `resync` seconds."""
        self._cluster = cluster
        self._ask = demand
        self._clock = clock
        self._workload = workload
        self._bounds = bounds
        self._port = port
        self._resync = resync
        self._alarm = Alarm(clock)
        self._rest = 0
        """Microseconds before the store is to be asked again."""
        self._window = Window()
        self._offers: Offers = frozenset()
        """What engines of this workload can run, as the last of them said."""
        self._marked: dict[str, int] = {}
        """Since when each marked pod has been seen to be, by UID."""
        self._said: dict[str, str] = {}
        """What was last logged of each thing that can last."""
        self._overtaken = 0
        """Looks in a row that ended since somebody else had changed the workload."""
        self._changes: Counter[str] = Counter()
        self._scaled = Scaled(desired=0, replicas=0, draining=0, load=0, frozen=True, changes={})
        self.trouble = ""
        """Why nothing is scaled, for people; empty while that works."""

    @property
    def level(self) -> Scaled:
        """How things stand, for metrics."""
        return self._scaled

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            try:
                selector = await self._selector()
            except ClusterError as error:
                self._freeze(error)
                await self._wait_after(error)
                continue
            reflector = Reflector(
                self._cluster,
                PODS,
                clock=self._clock,
                labels=selector,
                resync=self._resync,
                changed=lambda _: self._alarm.ring(),
                told=lambda _: self._alarm.ring(),
            )
            async with asyncio.TaskGroup() as tasks:
                following = tasks.create_task(reflector.run(), name="pods of the engines")
                await self._look_again_and_again(reflector, selector)
                following.cancel()

    async def _look_again_and_again(self, reflector: Reflector, selector: str) -> None:
        """Until the workload selects other pods: it is another one of the same name then."""
        while True:
            try:
                if not await self._look(reflector, selector):
                    return
            except ClusterConflict as error:  # somebody else has changed it: what it is now is seen in a moment
                _log.debug("autoscaling_overtaken", workload=str(self._workload), error=str(error))
                self._overtaken += 1
                if self._overtaken >= _TOO_OFTEN:
                    self._freeze(error)
            except (ClusterError, StoreError) as error:
                self._freeze(error)
                await self._wait_after(error)
            now = self._clock.now()
            await self._clock.sleep_until(now + max(_BREATH, self._rest))
            await self._alarm.wait(now + _LOOK)

    async def _wait_after(self, error: ClusterError | StoreError) -> None:
        asked = error.retry_after if isinstance(error, ClusterUnavailable) else None
        delay = max(_LOOK, round(min(asked or 0.0, _LONGEST_RETRY_AFTER) * 1e6))
        await self._clock.sleep_until(self._clock.now() + delay)

    async def _selector(self) -> str:
        """What selects the workload's pods. ClusterError."""
        return _selector_of(await self._scale())

    async def _scale(self) -> Object:
        try:
            return await self._cluster.get(self._workload.resource, self._workload.name, subresource="scale")
        except ClusterNotFound as error:
            raise ClusterNotFound(
                f"there is no {self._workload} in the namespace {self._cluster.namespace} to be scaled: "
                "ENGINE_WORKLOAD names the one that has the engines",
                status=error.status,
            ) from error

    # --- one look ---

    async def _look(self, reflector: Reflector, selector: str) -> bool:
        """Do what is to be done now; False when the workload is another one. ClusterError, StoreError."""
        if reflector.trouble:
            raise ClusterUnavailable(reflector.trouble)
        if not reflector.synced.is_set():
            return True
        demand = await self._demanded()
        work, needed = self._needs(demand, self._own(reflector.objects.values()))
        self._window = self._window.saw(self._clock.now(), needed, cooldown=self._bounds.cooldown)
        scale = await self._scale()
        if _selector_of(scale) != selector:
            return False
        pods = self._own(reflector.objects.values())
        size = int((scale.get("spec") or {}).get("replicas") or 0)
        standing = self._standing(size, pods, demand)
        plan = planning.plan(self._bounds, standing, self._stay(needed, standing))
        self._tell(plan, standing, work)
        try:
            done = await self._mark(plan, pods, work)
        except ClusterError:
            if plan.size > size:
                await self._resize(scale, size, plan, work)
            raise
        if plan.size > size:  # whatever became of the marks: no pod that cannot be changed keeps it small
            await self._resize(scale, size, plan, work)
        elif done and plan.size < size:
            plan = await self._plan_afresh(size, selector, plan)
            if plan.size < size:
                await self._resize(scale, size, plan, work)
        self._thaw()
        return True

    def _own(self, selected: Iterable[Object]) -> list[Object]:
        return [pod for pod in selected if _is_of(pod, self._workload)]

    async def _demanded(self) -> Demand:
        begun = self._clock.now()
        demand = await self._ask()
        self._rest = (self._clock.now() - begun) * _SHARE
        return demand

    def _needs(self, demand: Demand, pods: Collection[Object]) -> tuple[Load, int]:
        """The work for this workload, and how many engines that takes at present."""
        addresses = {discovered.target(pod, port=self._port) for pod in pods if not _has_ended(pod)} - {""}
        self._offers = load.offers(demand, addresses) or self._offers
        work = load.measure(demand, addresses, self._offers)
        return work, work.engines(self._bounds.target)

    def _stay(self, needed: int, standing: Standing) -> int:
        """How many engines should be at work: as many as are needed, and were lately."""
        return max(needed, self._window.needed(standing.at_work, cooldown=self._bounds.cooldown))

    def _standing(self, size: int, objects: Collection[Object], demand: Demand) -> Standing:
        now = self._clock.now()
        alive = [pod for pod in objects if _is_alive(pod)]
        marked = {str(pod["metadata"]["uid"]) for pod in alive if _annotations(pod).get(discovered.DRAIN)}
        self._marked = {uid: self._marked.get(uid, now) for uid in marked}
        engines = sorted(demand.engines.values(), key=lambda engine: engine.connected)
        by_address = {engine.address: engine for engine in engines if engine.address}
        pods = []
        for pod in alive:
            drain = str(_annotations(pod).get(discovered.DRAIN) or "")
            uid, address = str(pod["metadata"]["uid"]), discovered.target(pod, port=self._port)
            pods.append(
                _read(
                    pod,
                    drain=drain,
                    executions=load.executions_of(demand, address, by_address=by_address, draining=bool(drain)),
                    settled=uid in self._marked and now - self._marked[uid] >= _SETTLED,
                )
            )
        return Standing(size=size, pods=pods, ordered=self._workload.ordered)

    async def _plan_afresh(self, size: int, selector: str, plan: Plan) -> Plan:
        """What is still to be done about the size, once everything was read anew. ClusterError, StoreError."""
        page = await self._cluster.list(PODS, labels=selector)
        pods = self._own(page.items)
        demand = await self._demanded()
        _, needed = self._needs(demand, pods)
        standing = self._standing(size, pods, demand)
        again = planning.plan(self._bounds, standing, self._stay(needed, standing))
        if again.drain or again.undrain:  # marks first, at the next look
            return Plan(size=size, goal=again.goal)
        return Plan(size=min(size, max(again.size, plan.size)), goal=again.goal)

    # --- doing it ---

    async def _mark(self, plan: Plan, objects: Collection[Object], work: Load) -> bool:
        """Mark pods, and take marks off; whether all of that was done. ClusterError."""
        pods = {str(pod["metadata"]["name"]): pod for pod in objects}
        done = True
        for name in plan.undrain:
            done &= await self._annotate(pods[name], None, work)
        for name in plan.drain:
            done &= await self._annotate(pods[name], planning.DRAINED, work)
        return done

    async def _annotate(self, pod: Object, drain: str | None, work: Load) -> bool:
        """Change the marks of a pod as it was seen; False when it is another by now, or none."""
        meta = pod["metadata"]
        annotations: dict[str, str | None] = {discovered.DRAIN: drain}
        if not self._workload.ordered:
            annotations[COST] = str(planning.LEAST_COST) if drain else None
        body = {"metadata": {"resourceVersion": meta["resourceVersion"], "annotations": annotations}}
        try:
            await self._cluster.patch(PODS, str(meta["name"]), body)
        except (ClusterConflict, ClusterNotFound) as error:
            _log.debug("autoscaling_overtaken", workload=str(self._workload), error=str(error))
            return False
        event = "engine_drained" if drain else "engine_wanted_again"
        _log.info(event, pod=meta["name"], workload=str(self._workload), reason=self._reason(work))
        return True

    async def _resize(self, scale: Object, size: int, plan: Plan, work: Load) -> None:
        """Have the workload be of the planned size, if it is still what it was. ClusterError."""
        body = {
            "metadata": {"resourceVersion": scale["metadata"]["resourceVersion"]},
            "spec": {"replicas": plan.size},
        }
        await self._cluster.patch(self._workload.resource, self._workload.name, body, subresource="scale")
        self._changes["up" if plan.size > size else "down"] += 1
        _log.info(
            "engines_scaled", workload=str(self._workload), before=size, after=plan.size, reason=self._reason(work)
        )

    # --- telling ---

    def _reason(self, work: Load) -> str:
        needed, bounds = work.engines(self._bounds.target), self._bounds
        said = f"{work.running} executions run and {work.waiting} wait: {needed} engines for {bounds.target} each"
        if needed < bounds.min:
            said += f", {bounds.min} at least"
        if needed > bounds.max:
            said += f", {bounds.max} at most"
        return said + (f"; {work.elsewhere} wait that these engines cannot run" if work.elsewhere else "")

    def _tell(self, plan: Plan, standing: Standing, work: Load) -> None:
        """Once for each that is new."""
        draining = sum(1 for pod in standing.pods if pod.drain == planning.DRAINED)
        self._scaled = Scaled(
            desired=plan.goal,
            replicas=standing.size,
            draining=draining,
            load=work.running + work.waiting,
            frozen=self._scaled.frozen,
            changes=dict(self._changes),
        )
        self._say("autoscaling_blocked", plan.blocked)
        small = 0 < work.room < self._bounds.target
        self._say(
            "autoscaling_target_too_high",
            f"an engine takes {work.room} executions: at a target of {self._bounds.target}, some may wait for ever"
            if small
            else "",
        )

    def _freeze(self, error: Exception) -> None:
        self.trouble = f"engines are not scaled: {error}"
        self._scaled = msgspec.structs.replace(self._scaled, frozen=True, changes=dict(self._changes))
        if "frozen" not in self._said:
            _log.warning("autoscaling_frozen", workload=str(self._workload), reason=str(error))
        self._said["frozen"] = str(error)

    def _thaw(self) -> None:
        self.trouble = ""
        self._overtaken = 0
        self._scaled = msgspec.structs.replace(self._scaled, frozen=False, changes=dict(self._changes))
        if self._said.pop("frozen", None) is not None:
            _log.info("autoscaling_goes_on", workload=str(self._workload))

    def _say(self, event: str, reason: str) -> None:
        if reason and self._said.get(event) != reason:
            _log.warning(event, workload=str(self._workload), reason=reason)
        self._said[event] = reason


def _selector_of(scale: Object) -> str:
    selector = (scale.get("status") or {}).get("selector")
    if not selector:
        raise ClusterUnavailable(f"the scale of {scale['metadata']['name']} does not tell what selects its pods")
    return str(selector)


def _annotations(pod: Object) -> dict[str, Any]:
    return pod["metadata"].get("annotations") or {}


def _is_of(pod: Object, workload: Workload) -> bool:
    """Whether a pod that the workload's selector selects may be its own: others' may have the same labels.

    Who made the ReplicaSet of a pod of a Deployment is not looked up; planning sees that its template is another one.
    """
    owners: Iterable[Object] = pod["metadata"].get("ownerReferences") or ()
    owner = next((each for each in owners if each.get("controller")), None)
    if owner is None:  # it will be adopted, perhaps
        return True
    if owner["kind"] == workload.resource.kind:
        return bool(owner["name"] == workload.name)
    return not workload.ordered and bool(owner["kind"] == "ReplicaSet")


def _has_ended(pod: Object) -> bool:
    """Its address may be another pod's by now."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _is_alive(pod: Object) -> bool:
    return not pod["metadata"].get("deletionTimestamp") and not _has_ended(pod)


def _read(pod: Object, *, drain: str, executions: int | None, settled: bool) -> Pod:
    meta, status = pod["metadata"], pod.get("status") or {}
    conditions: Iterable[Object] = status.get("conditions") or ()
    cost = 0
    with contextlib.suppress(ValueError):  # then it has none, for the workload's controller too
        cost = int(_annotations(pod).get(COST) or 0)
    return Pod(
        name=str(meta["name"]),
        scheduled=bool((pod.get("spec") or {}).get("nodeName")),
        phase=str(status.get("phase") or "Pending"),
        ready=any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions),
        cost=cost,
        drain=drain,
        executions=executions,
        settled=settled,
        born=str(meta.get("creationTimestamp") or ""),
        template=str((meta.get("labels") or {}).get(_TEMPLATE) or ""),
    )
