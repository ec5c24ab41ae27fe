"""Operations on executions from the command line, against a real installation."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

DEADLINE = 30.0

RELEASE = """\
metadata: {id: release, version: 1.0.0}
spec:
  inputs: {limit: {type: integer, default: 1}}
  outputs: {paid: "{{ nodes.pay }}", limit: "{{ nodes.last }}"}
  nodes:
    - id: pay
      executor: {type: wait, signal: {name: paid, payload: {type: object, required: [amount]}}}
    - id: sign
      dependencies: [pay]
      executor: {type: wait, approval: {who: [ada]}}
    - id: last
      dependencies: [sign]
      executor: {type: lua, code: return inputs.limit}
"""

SHORT = """\
metadata: {id: short, version: 1.0.0}
spec: {nodes: [{id: pause, executor: {type: wait, duration: 2s}}, {id: b, executor: {type: lua, code: return 1}}]}
"""


@pytest.fixture
def release(known: Path, dagctl: Callable[..., Any]) -> str:
    """An execution that waits for the signal `paid`."""
    assert dagctl("apply", "-f", "-", stdin=RELEASE).code == 0
    identity = str(dagctl("start", "release").out.strip())
    waits(dagctl, identity, "pay", "awaiting_signal")
    return identity


def waits(dagctl: Callable[..., Any], identity: str, node: str, code: str) -> None:
    """Return when a node waits for a reason."""
    deadline = time.monotonic() + DEADLINE
    while True:
        nodes = json.loads(dagctl("why", identity, node, "-o", "json").out)["nodes"]
        if [reason["code"] for reason in nodes] == [code]:
            return
        assert time.monotonic() < deadline, nodes


def test_a_release_from_payment_to_end(release: str, dagctl: Callable[..., Any]) -> None:
    wrong = dagctl("signal", release, "paid", "--payload", "{}")
    assert wrong.code == 2
    assert "the payload does not fit what node 'pay' waits for" in wrong.err
    paid = dagctl("signal", release, "paid", "-p", '{"amount": 12}', "--author", "shop")
    assert (paid.code, paid.out, paid.err) == (0, "signal paid received by shop\n", "")
    waits(dagctl, release, "sign", "awaiting_approval")
    forbidden = dagctl("approve", release, "sign", "--author", "eve")
    assert (forbidden.code, forbidden.out) == (1, "")
    assert "'eve' may not decide about 'sign'; these may: ada" in forbidden.err
    rejected = dagctl("reject", release, "sign", "--author", "ada", "--reason", "too early")
    assert (rejected.code, rejected.out) == (0, "sign rejected by ada: too early\n")
    assert dagctl("watch", release).code == 1
    again = dagctl("retry", release, "--author", "ada")
    assert (again.code, again.out) == (0, "to run again by ada: sign, last\n")
    waits(dagctl, release, "sign", "awaiting_approval")
    edited = dagctl("edit", release, "last", "-i", "limit=7", "--author", "ada")
    assert edited.out == "inputs of last edited by ada\n"
    assert dagctl("approve", release, "sign", "--author", "ada").out == "sign approved by ada\n"
    watched = dagctl("watch", release, "-o", "json")
    assert watched.code == 0
    assert json.loads(watched.out)["outputs"] == {"paid": {"amount": 12}, "limit": 7}
    told = dagctl("describe", "execution", release).out
    assert "Attempts at nodes that took several:" in told
    assert "Rejected" in told


def test_a_pause_is_told_and_refused_twice(release: str, dagctl: Callable[..., Any]) -> None:
    paused = dagctl("pause", release, "--author", "ada", "--reason", "lunch")
    assert (paused.code, paused.out) == (0, "paused by ada: lunch\n")
    assert "Paused:    all of it\n" in dagctl("describe", "execution", release).out
    refused = dagctl("pause", release)
    assert (refused.code, refused.out) == (1, "")
    assert "was refused: it is paused already" in refused.err
    table = dagctl("why", release).out.splitlines()
    assert table[0] == f"{release} is running"
    assert table[1].split()[:3] == ["NODE", "PHASE", "WHY"]
    assert table[2].split()[:3] == ["pay", "waiting", "paused"]
    resumed = json.loads(dagctl("resume", release, "-o", "json").out)
    assert (resumed["kind"], resumed["fact"]["type"]) == ("resume", "Resumed")
    assert dagctl("terminate", release, "--author", "ada").out == "terminated by ada\n"
    assert dagctl("why", release).out.startswith(f"{release} was cancelled")
    late = dagctl("pause", release)
    assert late.code == 1
    assert "has ended already (cancelled)" in late.err


def test_a_node_is_skipped_without_waiting(release: str, dagctl: Callable[..., Any]) -> None:
    skipped = dagctl("skip", release, "pay", "--result", '{"amount": 0}', "--no-wait")
    assert skipped.code == 0
    assert skipped.out.startswith("recorded as ")
    waits(dagctl, release, "sign", "awaiting_approval")
    cancelled = dagctl("cancel", release, "--grace", "2s", "--author", "ada", "--reason", "enough")
    assert cancelled.out == "cancel requested by ada (effects have 2.0s): enough\n"
    assert dagctl("get", "executions", release).out.splitlines()[1].endswith("enough")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("pause", "nothing"), 1, "there is no execution 'nothing'"),
        (("why", "nothing"), 1, "there is no execution 'nothing'"),
        (("cancel", "x", "--grace", "soon"), 2, "--grace: expected a duration"),
        (("edit", "x", "y"), 2, "give the inputs that the node is to see"),
        (("skip", "x", "y", "--result", "@missing.json"), 2, "missing.json cannot be read"),
    ],
)
def test_what_makes_no_sense_is_told(
    known: Path, dagctl: Callable[..., Any], arguments: tuple[str, ...], code: int, said: str
) -> None:
    answer = dagctl(*arguments)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err


def test_what_engines_finish_at_the_end_is_committed(
    tmp_path: Path, development: Callable[..., Any], dagctl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGCTL_CONFIG", str(tmp_path / "dev.json"))
    state = tmp_path / "state"
    with development(tmp_path, "--engines", "1", "--log-level", "error", "--data", str(state)) as running:
        assert dagctl("apply", "-f", "-", stdin=SHORT).code == 0
        identity = dagctl("start", "short").out.strip()
        waits(dagctl, identity, "pause", "awaiting_time")
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=60) == 0
    with sqlite3.connect(state / "orchestrator.db") as store:
        assert store.execute("SELECT status FROM executions").fetchall() == [("succeeded",)]
    store.close()
