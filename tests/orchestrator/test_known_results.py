"""`cache`: a result that one engine has found is used by another one, in another execution."""

from __future__ import annotations

from dagengine import DAGEngine
from orchestrator import Orchestrator

WORKFLOW = """
apiVersion: workflows/v1
kind: Workflow
metadata: {id: prices, version: 1.0.0}
spec:
  inputs: {day: {type: string}}
  nodes:
    - id: load
      cache: {key: "prices of {{ inputs.day }}", ttl: 1h}
      executor: {type: python, function: load, args: {day: "{{ inputs.day }}"}}
"""


async def test_a_result_is_found_by_other_executions_on_other_engines() -> None:
    calls: list[str] = []

    def load(day: str) -> dict[str, str]:
        calls.append(day)
        return {"of": day}

    async with Orchestrator() as orch:
        for name in ("one", "two"):
            orch.register_engine(name, DAGEngine(functions={"load": load}))
        await orch.apply(WORKFLOW)
        days = ["mon", "mon", "tue", "mon"]
        found = [await orch.execute_workflow("prices", {"day": day}) for day in days]
        assert found == [{"load": {"of": day}} for day in days]
        assert calls == ["mon", "tue"]
        page = await orch.executions()
        first, last = page.items[-1], page.items[0]
        kinds = [view.fact for view in await orch.facts(last.id)]
        assert any(f'"cached_from":"{first.id}"'.encode() in bytes(fact) for fact in kinds)


async def test_they_outlive_the_orchestrator(tmp_path) -> None:
    calls: list[str] = []

    def load(day: str) -> str:
        calls.append(day)
        return day

    for _ in range(2):
        async with Orchestrator(f"sqlite:///{tmp_path}/orch.db") as orch:
            orch.register_engine("one", DAGEngine(functions={"load": load}))
            await orch.apply(WORKFLOW)
            assert await orch.execute_workflow("prices", {"day": "mon"}) == {"load": "mon"}
    assert calls == ["mon"]
