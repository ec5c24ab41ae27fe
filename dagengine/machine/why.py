"""Why a node is not running: one reason for each, which programs can read and people can, too.

`explain` looks at a state and nothing else, so it can be asked of a fold of committed facts, anywhere. What facts do
not know (that no engine has room for the execution, say) is for whoever keeps the execution to tell.

================== ==================================================================================================
`waiting_on`       dependencies have not ended: those in `waiting_on`
`main_part`        a node of `on_exit`: the others have not all ended
`paused`           the execution or the node is paused, since `since`
`starting`         nothing stands in its way: it is being evaluated, looked up or handed over
`pool_full`        there is no room in `pool`
`rate_limited`     attempts begin as often as `rate` allows
`backoff`          its last attempt did not succeed; the next is at `until`
`awaiting_time`    it waits until `until`
`awaiting_signal`  it waits for the signal `name`, until `until` if that is set
`awaiting_approval` it waits for people to decide
`items`            it is running: some of its items are not, see `items`
`max_parallel`     an item: as many as `max_parallel` lets are under way
`window`           an item: as many as may be under way at once in any case are
`stopping`         an item of a node that may use the grace of a cancel: it does not begin any more
`succeeded`        it has ended
`failed`           it has ended: `error` tells how
`skipped`          it was not run, for `reason`
`overridden`       somebody skipped it, or gave its result
`cancelled`        it was given up, for `reason`
`given_up`         the platform has ended the execution before the node had ended: `error` tells why
================== ==================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from dagengine.events import facts
from dagengine.events.facts import ErrorInfo
from dagengine.machine import applying, fanout
from dagengine.machine.clocks import Due
from dagengine.machine.phases import FINAL, Phase
from dagengine.machine.state import State

__all__ = ["Why", "explain", "explain_items"]

_NAMED: Final = 5
_UNDER_WAY: Final = (Phase.RUNNING, Phase.BACKOFF, Phase.WAITING)
_SKIPS: Final[dict[str, str]] = {
    "when_false": "its `when` came to false",
    "run_if": "its `run_if` asks for an outcome that no dependency had",
    "upstream_skipped": "a node it depends on was skipped",
    "upstream_failed": "a node it depends on failed",
    "upstream_cancelled": "a node it depends on was given up",
    "cancelled": "the execution was cancelled",
    "fail_fast": "another node failed, and the workflow fails fast",
    "timeout": "the execution took longer than its timeout",
}


class Why(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One reason. `phase` is the node's, in lower case; times are microseconds since the Unix epoch.

    `words` say it to people. The other members are set where the reason has them.
    """

    node: str
    phase: str
    code: str
    words: str
    index: int | None = None
    waiting_on: tuple[str, ...] = ()
    until: int | None = None
    since: int | None = None
    name: str = ""
    pool: str = ""
    rate: str = ""
    reason: str = ""
    author: str = ""
    attempt: int = 0
    error: ErrorInfo | None = None
    items: dict[str, int] | None = None
    """How many items are in which phase."""


def explain(state: State, node: str | None = None) -> list[Why]:
    """Why each node that is not running is not, or why `node` is not. Nodes that run are left out, but for those with
    items. KeyError when there is no such node.

    The reasons come in the order of the document.
    """
    positions = range(len(state.graph)) if node is None else (state.graph.index[node],)
    dues = _dues(state)
    told = (_of_node(state, position, dues) for position in positions)
    return [why for why in told if why is not None]


def explain_items(state: State, node: str) -> list[Why]:
    """The same for each item of `node` that neither runs nor has succeeded. KeyError when there is no such node."""
    position = state.graph.index[node]
    items = state.items.get(position)
    if items is None:
        return []
    dues, window, full = _dues(state), fanout.window(state.graph.nodes[position]), _is_full(state, position)
    over = state.given_up or state.phase[position] in FINAL
    found: list[Why] = []
    ahead = 0
    for index, phase in enumerate(items.phase):
        if phase != Phase.SUCCEEDED and (phase != Phase.RUNNING or over):
            beyond = full or ahead >= window
            found.append(_of_unit(state, position, index, Phase(phase), dues, beyond=beyond))
        ahead += phase not in FINAL
    return found


def _dues(state: State) -> dict[tuple[int, int], int]:
    """Until when each unit waits: for its next attempt, or at most for what it waits for. Pauses are counted in."""
    kinds = (Due.RETRY, Due.WAIT)
    return {(position, index): at for at, kind, position, index, _ in state.clocks.entries(state) if kind in kinds}


def _of_node(state: State, position: int, dues: dict[tuple[int, int], int]) -> Why | None:
    phase = Phase(state.phase[position])
    if phase in FINAL:
        return _of_end(state, position, phase)
    items = state.items.get(position)
    if phase == Phase.RUNNING and not state.given_up:
        if items is None:
            return None
        counts = {Phase(each).name.lower(): items.phase.count(each) for each in sorted(set(items.phase))}
        words = ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "it has no items"
        pause = _pause(state, position)
        if pause is not None:
            return _why(
                state, position, -1, phase, "paused", f"{pause[1]}; items: {words}", since=pause[0], items=counts
            )
        return _why(state, position, -1, phase, "items", f"its items: {words}", items=counts)
    return _of_unit(state, position, -1, phase, dues)


def _of_unit(
    state: State, position: int, index: int, phase: Phase, dues: dict[tuple[int, int], int], *, beyond: bool = False
) -> Why:
    """`beyond` says of an item that as many others are under way as may be."""
    unit, node = (position, index), state.graph.nodes[position]
    if index >= 0 and phase == Phase.FAILED:
        error = state.errors[unit]
        attempt = state.attempt_of(*unit)
        return _why(state, *unit, phase, "failed", f"it failed: {error.message}", error=error, attempt=attempt)
    if state.phase[position] in FINAL:
        return _why(state, *unit, phase, "cancelled", "its node has ended without it", attempt=state.attempt_of(*unit))
    if state.given_up:
        fault = "" if state.error is None else f": {state.error.message}"
        words = f"the execution was given up before it had ended{fault}"
        return _why(state, *unit, phase, "given_up", words, error=state.error)
    if index >= 0 and position in state.stopping:
        return _why(state, *unit, phase, "stopping", "the execution is being cancelled: it does not begin any more")
    if index < 0 and state.waiting[position]:
        needed = [state.graph.nodes[each].id for each in node.dependencies if state.phase[each] not in FINAL]
        more = f" and {len(needed) - _NAMED} more" if len(needed) > _NAMED else ""
        words = f"it waits for {', '.join(needed[:_NAMED])}{more}"
        return _why(state, *unit, phase, "waiting_on", words, waiting_on=tuple(needed[:_NAMED]))
    if node.exit and state.concluded is None:
        return _why(state, *unit, phase, "main_part", "it belongs to `on_exit`, which comes after all other nodes")
    pause = _pause(state, position)
    if pause is not None:
        return _why(state, *unit, phase, "paused", pause[1], since=pause[0])
    if phase == Phase.WAITING:
        return _of_wait(state, unit, state.waits[unit], dues.get(unit))
    queued = state.queued.get(unit)
    if queued is not None:
        if queued.pool:
            words = f"there is no room in the pool '{queued.pool}'"
            return _why(state, *unit, phase, "pool_full", words, pool=queued.pool, since=queued.at)
        words = f"its attempts begin as often as {queued.rate} allows"
        return _why(state, *unit, phase, "rate_limited", words, rate=queued.rate, since=queued.at)
    if phase == Phase.BACKOFF:
        error = state.errors[unit]
        attempt, until = state.attempt_of(*unit), dues.get(unit)
        words = f"attempt {attempt} did not succeed ({error.type}: {error.message}); it will be tried again"
        return _why(state, *unit, phase, "backoff", words, until=until, error=error, attempt=attempt)
    if beyond and node.max_parallel is not None and node.max_parallel <= fanout.ITEM_WINDOW:
        words = f"{node.max_parallel} items are under way, which is all that `max_parallel` lets"
        return _why(state, *unit, phase, "max_parallel", words)
    if beyond:
        words = f"others come first: about {fanout.ITEM_WINDOW:,} items of a node may be under way at once"
        return _why(state, *unit, phase, "window", words)
    return _why(state, *unit, phase, "starting", "nothing stands in its way: it is about to begin")


def _is_full(state: State, position: int) -> bool:
    """Whether as many items of a node run, wait or are queued as lets no other begin."""
    phases, node = state.items[position].phase, state.graph.nodes[position]
    queued = applying.units_in(state, state.queued, position)
    begun = sum(map(phases.count, _UNDER_WAY)) + sum(phases[index] == Phase.PENDING for _, index in queued)
    return begun >= fanout.window(node) if node.max_parallel is not None else begun > fanout.ITEM_WINDOW - fanout.REFILL


def _pause(state: State, position: int) -> tuple[int, str] | None:
    """Since when the node is paused, and in words; None when it is not."""
    if -1 in state.paused:
        return state.paused[-1], "the execution is paused"
    if position in state.paused:
        return state.paused[position], "the node is paused"
    return None


def _of_wait(state: State, unit: tuple[int, int], wait: facts.NodeWaiting, until: int | None) -> Why:
    phase = Phase.WAITING
    match wait.kind:
        case "signal":
            words = f"it waits for the signal '{wait.name}'"
            return _why(state, *unit, phase, "awaiting_signal", words, name=wait.name, until=until, since=wait.at)
        case "approval":
            executor = state.graph.nodes[unit[0]].wait
            approval = executor.approval if executor is not None else None
            have = len(state.decisions.get(unit, ()))
            quorum = approval.quorum if approval is not None else 1
            who = f" of {', '.join(approval.who)}" if approval is not None and approval.who else ""
            words = f"it waits for an approval{who}" + (f" ({have} of {quorum})" if quorum > 1 else "")
            return _why(state, *unit, phase, "awaiting_approval", words, until=until, since=wait.at)
        case _:
            words = "it waits for its time to come"
            return _why(state, *unit, phase, "awaiting_time", words, until=until, since=wait.at)


def _of_end(state: State, position: int, phase: Phase) -> Why:
    unit = (position, -1)
    overridden = state.overridden.get(position)
    if overridden is not None:
        done = "skipped it" if phase == Phase.SKIPPED else "gave its result"
        why = f": {overridden.reason}" if overridden.reason else ""
        words = f"{overridden.author or 'somebody'} {done}{why}"
        return _why(state, *unit, phase, "overridden", words, author=overridden.author)
    match phase:
        case Phase.SUCCEEDED:
            return _why(state, *unit, phase, "succeeded", "it has succeeded", attempt=state.attempt[position])
        case Phase.FAILED:
            error = state.errors[unit]
            attempt = state.attempt[position]
            return _why(state, *unit, phase, "failed", f"it failed: {error.message}", error=error, attempt=attempt)
    reason, because = state.skipped.get(position, ("cancelled", ()))
    words = _SKIPS[reason] + (f": {', '.join(because)}" if because else "")
    when = state.graph.nodes[position].when
    if reason == "when_false" and when is not None:
        words = f"its `when` came to false: {when}"
    code = "skipped" if phase == Phase.SKIPPED else "cancelled"
    return _why(state, *unit, phase, code, words, reason=reason, waiting_on=because)


def _why(state: State, position: int, index: int, phase: Phase, code: str, words: str, /, **more: Any) -> Why:
    node = state.graph.nodes[position].id
    known = {name: value for name, value in more.items() if value is not None}
    item = None if index < 0 else index
    return Why(node=node, index=item, phase=phase.name.lower(), code=code, words=words, **known)


def codes() -> Iterator[str]:
    """Every code that a reason can have, from the table above."""
    _, table, _ = (__doc__ or "").split("\n==", maxsplit=2)
    for line in table.splitlines():
        if line.startswith("`"):
            yield line.split("`")[1]
