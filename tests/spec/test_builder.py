"""Workflows built in Python."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dagengine.errors import Problem, SpecError
from dagengine.spec import document
from dagengine.spec.builder import NodeRef, PythonNodeRef, Workflow
from dagengine.spec.executors import BearerAuth
from dagengine.spec.model import (
    Approval,
    Backoff,
    Cache,
    Concurrency,
    CronTrigger,
    Document,
    HTTPExecutor,
    HTTPTrigger,
    KeptExecutions,
    KeptLogs,
    LuaExecutor,
    Node,
    PythonExecutor,
    RequiredEngine,
    Retention,
    Retry,
    RetryPolicy,
    Signal,
    WaitExecutor,
)


@pytest.fixture
def workflow() -> Workflow:
    return Workflow("w", "1.0.0")


def _dependencies(workflow: Workflow) -> dict[str, tuple[str, ...]]:
    return {node.id: node.dependencies for node in workflow.build().spec.nodes}


def _args(workflow: Workflow, id_: str) -> dict[str, Any]:
    (executor,) = [node.executor for node in workflow.build().spec.nodes if node.id == id_]
    assert isinstance(executor, PythonExecutor)
    return executor.args


def _messages(workflow: Workflow) -> list[str]:
    with pytest.raises(SpecError) as caught:
        workflow.build()
    return [str(problem) for problem in caught.value.problems]


def test_arrows_chain_fan_out_and_join(workflow: Workflow) -> None:
    a, b, c, d, e, f = (workflow.lua(id_, "return 1") for id_ in "abcdef")
    assert (a >> [b, c] >> d) is d
    a >> e >> f
    [c, b] >> f
    assert _dependencies(workflow) == {
        "a": (),
        "b": ("a",),
        "c": ("a",),
        "d": ("b", "c"),
        "e": ("a",),
        "f": ("e", "c", "b"),
    }


def test_depends_on_takes_nodes_and_ids_and_each_once(workflow: Workflow) -> None:
    a = workflow.lua("a", "return 1")
    b = workflow.lua("b", "return 1", depends_on=a)
    workflow.lua("c", "return 1", depends_on=["a", b, a]).depends_on("b", a)
    workflow.lua("d", "return 1", depends_on="c")
    assert _dependencies(workflow) == {"a": (), "b": ("a",), "c": ("a", "b"), "d": ("c",)}


def test_every_field_of_a_node_arrives(workflow: Workflow) -> None:
    a = workflow.lua("a", "return {1}", name="A", description="first", timeout="1500ms")
    workflow.lua(
        "b",
        "return item",
        depends_on=[a],
        foreach="nodes.a",
        when="#nodes.a > 0",
        run_if="all_done",
        retry=Retry(fail=RetryPolicy(max_attempts=2)),
        timeout="1m",
    )
    workflow.lua("c", "return 1", timeout=0.25, retry={"error": {"max_attempts": 1}})
    first, second, third = workflow.build().spec.nodes
    assert (first.name, first.description, first.timeout) == ("A", "first", 1_500_000)
    assert (second.foreach, second.when, second.run_if) == ("nodes.a", "#nodes.a > 0", "all_done")
    assert (second.retry.fail.max_attempts, second.retry.error.max_attempts, second.timeout) == (2, 3, 60_000_000)
    assert (third.timeout, third.retry.error.max_attempts) == (250_000, 1)


def test_every_field_of_the_workflow_arrives() -> None:
    workflow = Workflow(
        "w",
        "1.2.3",
        name="W",
        description="all of it",
        inputs={"x": {"type": "integer", "default": 1}},
        outputs={"y": "{{ nodes.a }}"},
        labels={"team": "data"},
        annotations={"note": "n"},
        http="/trigger/w",
        cron="*/5 * * * *",
        env={"MODE": "test"},
    )
    workflow.lua("a", "return env.MODE")
    built = workflow.build()
    assert built.reference == "w@1.2.3"
    assert (built.metadata.name, built.metadata.description) == ("W", "all of it")
    assert (built.metadata.labels, built.metadata.annotations) == ({"team": "data"}, {"note": "n"})
    assert built.spec.triggers.http == HTTPTrigger(path="/trigger/w")
    assert built.spec.triggers.cron == CronTrigger(schedule="*/5 * * * *")
    assert built.spec.configuration.env == {"MODE": "test"}
    assert built.spec.outputs == {"y": "{{ nodes.a }}"}


@pytest.mark.parametrize("http", ["/x", {"path": "/x"}, HTTPTrigger(path="/x")])
@pytest.mark.parametrize("cron", ["* * * * *", {"schedule": "* * * * *"}, CronTrigger(schedule="* * * * *")])
def test_triggers_may_be_given_in_three_ways(http: Any, cron: Any) -> None:
    workflow = Workflow("w", "1.0.0", http=http, cron=cron)
    workflow.lua("a", "return 1")
    triggers = workflow.build().spec.triggers
    assert triggers.http is not None
    assert triggers.cron is not None
    assert (triggers.http.path, triggers.cron.schedule) == ("/x", "* * * * *")


def test_nodes_made_by_hand_are_added(workflow: Workflow) -> None:
    first = workflow.add(Node(id="a", executor=LuaExecutor(code="return 1"), timeout="5s"))
    second = workflow.add(Node(id="b", executor=LuaExecutor(code="return 1"), dependencies=["a"]))
    third = workflow.lua("c", "return 1")
    first >> third
    third >> second
    assert _dependencies(workflow) == {"a": (), "b": ("a", "c"), "c": ("a",)}
    assert workflow.build().spec.nodes[0].timeout == 5_000_000


class TestPython:
    def test_a_decorated_function_stays_callable_and_is_registered(self, workflow: Workflow) -> None:
        @workflow.python
        def double(x: int = 2) -> int:
            """Twice."""
            return x * 2

        assert isinstance(double, PythonNodeRef)
        assert isinstance(double, NodeRef)
        assert double(4) == 8
        assert double.id == "double"
        assert workflow.functions["w@1.0.0.double"](5) == 10
        (node,) = workflow.build().spec.nodes
        assert node.executor == PythonExecutor(function="w@1.0.0.double")

    def test_it_can_be_named_configured_and_called(self, workflow: Workflow) -> None:
        @workflow.python("load-data", pure=True, timeout="1s")
        def load() -> int:
            return 1

        @workflow.python(depends_on=[load], when="true")
        def second() -> int:
            return 2

        third = workflow.python("third", lambda: 3, depends_on="second")
        assert third() == 3
        assert _dependencies(workflow) == {"load-data": (), "second": ("load-data",), "third": ("second",)}
        first = workflow.build().spec.nodes[0]
        assert first.timeout == 1_000_000
        assert isinstance(first.executor, PythonExecutor)
        assert first.executor.pure
        assert set(workflow.functions) == {"w@1.0.0.load-data", "w@1.0.0.second", "w@1.0.0.third"}

    def test_parameters_named_like_earlier_nodes_make_them_dependencies(self, workflow: Workflow) -> None:
        workflow.lua("load-data", "return 1")
        workflow.lua("other", "return 1")

        @workflow.python
        def report(load_data: int, other: int = 1, later: int = 2) -> int:
            return load_data + other + later

        workflow.lua("later", "return 1", depends_on="report")
        assert _dependencies(workflow)["report"] == ("load-data", "other")
        assert _args(workflow, "report") == {"load_data": '{{ nodes["load-data"] }}', "other": "{{ nodes.other }}"}

    def test_explicit_dependencies_leave_nothing_implied(self, workflow: Workflow) -> None:
        workflow.lua("a", "return 1")
        workflow.lua("b", "return 1")
        workflow.python("c", lambda a, b=None: (a, b), depends_on="a")
        assert _dependencies(workflow)["c"] == ("a",)
        assert _args(workflow, "c") == {"a": "{{ nodes.a }}"}

    def test_arrows_bind_parameters_too(self, workflow: Workflow) -> None:
        consume = workflow.python("consume", lambda produce, nodes: (produce, nodes))
        workflow.lua("produce", "return 1") >> consume
        assert _args(workflow, "consume") == {
            "produce": "{{ nodes.produce }}",
            "nodes": {"produce": "{{ nodes.produce }}"},
        }

    def test_the_rest_of_the_scope_is_bound_by_name(self) -> None:
        workflow = Workflow("w", "1.0.0", inputs={"day": {"type": "string"}, "end": {"default": 1}})

        @workflow.python(foreach="{1, 2}")
        def each(inputs: Any, item: int, index: int, day: str, end: int, *rest: int, **more: int) -> int:
            return item

        assert _args(workflow, "each") == {
            "inputs": "{{ inputs }}",
            "item": "{{ item }}",
            "index": "{{ index }}",
            "day": "{{ inputs.day }}",
            "end": '{{ inputs["end"] }}',
        }

    def test_explicit_arguments_win(self, workflow: Workflow) -> None:
        workflow.lua("a", "return 1")
        workflow.python("b", lambda a, x: (a, x), args={"a": 5, "x": ["{{ env.Y }}"]})
        assert _dependencies(workflow)["b"] == ()
        assert _args(workflow, "b") == {"a": 5, "x": ["{{ env.Y }}"]}

    def test_what_cannot_be_bound_is_told_with_everything_else(self, workflow: Workflow) -> None:
        def function(first: int, /, second: int, item: int) -> int:
            return first

        workflow.python("a", function, args={"thrid": 1}, depends_on="b")
        messages = _messages(workflow)
        assert len(messages) == 5
        assert messages[0] == "spec.nodes[0].dependencies[0]: unknown node 'b'"
        assert messages[1].startswith("spec.nodes[0].executor.args: nothing is bound to parameter 'second'")
        assert (
            messages[2]
            == "spec.nodes[0].executor.args: parameter 'first' is positional-only; arguments are given by name"
        )
        assert messages[3] == "spec.nodes[0].executor.args: the function has no parameter 'thrid'"
        assert messages[4] == "spec.nodes[0].executor.args.item: `item` is there only in a node with `foreach`"

    def test_unbound_parameters_alone_are_enough_to_refuse(self, workflow: Workflow) -> None:
        workflow.python("a", lambda x: x)
        with pytest.raises(SpecError, match="workflow 'w' has 1 problem"):
            workflow.build()


def test_problems_of_all_nodes_come_at_once() -> None:
    workflow = Workflow("w w", "1")
    a = workflow.lua("a", "return nodes.b", timeout="never")
    b = workflow.lua("b", "return 1", run_if="sometimes")  # type: ignore[arg-type] # that is what is being tested
    a >> b >> a
    workflow.lua("a", "return 1")
    assert [message.split(": ")[0] for message in _messages(workflow)] == [
        "metadata.id",
        "metadata.version",
        "spec.nodes[0].dependencies",
        "spec.nodes[0].timeout",
        "spec.nodes[1].run_if",
        "spec.nodes[2].id",
    ]


def test_nodes_of_different_workflows_cannot_be_connected(workflow: Workflow) -> None:
    stranger = Workflow("other", "1.0.0").lua("x", "return 1")
    with pytest.raises(SpecError, match="<node 'x' of workflow 'other'> cannot be connected"):
        workflow.lua("a", "return 1").depends_on(stranger)


def test_checks_of_other_layers_are_passed_on(workflow: Workflow) -> None:
    def check(read: Document) -> Iterable[Problem]:
        yield Problem(path="spec.nodes[0].executor.code", message=f"{read.id} does not like it")

    workflow.lua("a", "return 1")
    with pytest.raises(SpecError, match=r"spec\.nodes\[0\]\.executor\.code: w does not like it"):
        workflow.build(checks=[check])


def test_a_workflow_can_be_built_again_after_more_was_added(workflow: Workflow) -> None:
    a = workflow.lua("a", "return 1")
    before = workflow.build()
    a >> workflow.python("b", lambda a: a)
    after = workflow.build()
    assert len(before.spec.nodes) == 1
    assert len(after.spec.nodes) == 2
    assert after.digest == workflow.build().digest != before.digest


def test_unknown_options_are_type_errors(workflow: Workflow) -> None:
    with pytest.raises(TypeError, match=r"lua\(\) got an unexpected keyword argument 'retries'"):
        workflow.lua("a", "return 1", retries=3)  # type: ignore[call-arg] # that is what is being tested
    with pytest.raises(TypeError, match=r"wait\(\) got an unexpected keyword argument 'memory'"):
        workflow.wait("b", duration=1, memory="1MiB")  # type: ignore[call-arg] # that is what is being tested


EVERYTHING = Path(__file__).parent / "valid" / "everything.yaml"


def _everything() -> Workflow:
    """`valid/everything.yaml` in Python."""
    workflow = Workflow(
        "everything",
        "2.0.0",
        name="Everything",
        description="all of it",
        labels={"team": "data"},
        annotations={"note": "none"},
        inputs={
            "tenant": {"type": "string", "default": "main"},
            "days": {"type": "array", "items": {"type": "string", "format": "date"}, "default": []},
        },
        outputs={"total": "{{ nodes.total }}"},
        modules={"shop.rows": "return {sum = function(rows) return #rows end}"},
        timeout=3600,
        failure_policy="fail_fast",
        concurrency=Concurrency(key="{{ inputs.tenant }}/x", max=2, on_conflict="replace"),
        engine=RequiredEngine(pool="gpu", labels={"zone": "eu-1.a", "example.org/disk": "ssd"}, exclusive=True),
        priority=-5,
        retention=Retention(executions=KeptExecutions(ttl="30d", keep=1_000), logs=KeptLogs(ttl="7d")),
        env={"MODE": "test"},
        secrets=["token", "password"],
        http=HTTPTrigger(path="/trigger/everything", method="PUT"),
        cron={"schedule": "0 3 * * *", "timezone": "Europe/Berlin", "inputs": {"tenant": "night"}},
    )
    _requests(workflow)
    _programs(workflow)
    _waits(workflow)
    tell = workflow.on_exit.python(
        "tell",
        lambda how, total: None,
        when='execution.status ~= "succeeded"',
        args={"how": "{{ execution }}", "total": "{{ nodes.total }}"},
    )
    tell >> workflow.on_exit.lua("tidy", "return {nodes.tell, nodes.rates, execution.status}", run_if="always")
    return workflow


def _requests(workflow: Workflow) -> None:
    rates = workflow.http(
        "rates",
        "https://example.com/{{ inputs.tenant }}?x=1",
        name="Rates",
        description="of the day",
        timeout="30s",
        total_timeout="5m",
        rate="100/10m",
        retry=Retry(
            fail=RetryPolicy(
                max_attempts=3,
                retry_on=("HTTP5??", "Timeout*"),
                backoff=Backoff(initial=2, factor=3.0, max="1m", jitter=0.2),
            ),
            error=RetryPolicy(max_attempts=4, stop_on=("NotAllowed",)),
        ),
        cache=Cache(key="{{ inputs.tenant }}", ttl="1d"),
        method="POST",
        query={"page": 1, "tag": ["{{ env.MODE }}", "b"]},
        headers={"X-Tenant": "{{ inputs.tenant }}"},
        json={"days": "{{ inputs.days }}"},
        auth={"type": "basic", "username": "me", "secret": "password"},
        verify=False,
        redirects=3,
        expect=[200, "4xx"],
        select="response.status == 200 and response.body.rates or {}",
        output="64KiB",
    )
    workflow.http(
        "form",
        "https://example.com",
        form={"a": "{{ inputs.tenant }}"},
        auth=BearerAuth(secret="token"),
        pointers={"all": "", "first": "/items/0/a~1b"},
    )
    auth = {"type": "header", "name": "X-Key", "secret": "token"}
    workflow.http("plain", "{{ inputs.tenant }}", body="x", auth=auth)
    workflow.lua(
        "per-day",
        "return require('shop.rows').sum({item, key})",
        depends_on=rates,
        foreach="nodes.rates",
        max_parallel=4,
        fail_after=2,
        when='inputs.tenant ~= ""',
        run_if="none_failed",
        pool="db",
        weight=3,
        cache="{{ key }} {{ item }} {{ index }}",
        memory="32MiB",
        output=1_000_000,
    )


def _programs(workflow: Workflow) -> None:
    workflow.shell(
        "shell",
        "wc -l",
        depends_on="per-day",
        shell=("/bin/bash", "-euo", "pipefail"),
        env={"MODE": "{{ env.MODE }}"},
        secrets={"TOKEN": "token"},
        stdin="{{ nodes['per-day'] }}",
        output="1kB",
        on_partition="continue",
    )
    program = workflow.shell("program", ["docker", "inspect", "--format", "{{ .State }}"], stdin={"a": [1]})
    executor = PythonExecutor(
        function="shop.work:run", args={"x": "{{ nodes.program }}"}, pure=True, isolation="process"
    )
    program >> workflow.add(Node(id="python", executor=executor))


def _waits(workflow: Workflow) -> None:
    workflow.wait("pause", duration=90)
    workflow.wait("morning", until="2026-01-31T09:30:00+01:00")
    workflow.wait("stamp", until=1769850000.5)
    workflow.wait("later", until="{{ nodes.rates.at }}", depends_on="rates")
    payload: dict[str, Any] = {
        "type": "object",
        "properties": {"amount": {"type": "number"}},
        "required": ["amount"],
    }
    signal = Signal(name="paid-{{ item }}", payload=payload, timeout="2h", default={"amount": 0})
    workflow.wait("paid", signal=signal, foreach="inputs.days")
    approval = {"who": ["ops", "lead"], "quorum": 2, "timeout": "1d", "default": "reject"}
    agreed = workflow.wait("agreed", approval=approval, total_timeout="1d")
    agreed >> workflow.lua("total", "return 1")


def test_every_field_of_a_document_can_be_built_and_gives_the_same_digest() -> None:
    written = document.read(EVERYTHING.read_text()).to_dict()
    built = _everything().build().to_dict()
    tell = built["spec"]["on_exit"][0]
    assert tell["executor"].pop("function") == "everything@2.0.0.tell"  # the builder names functions itself
    assert written["spec"]["on_exit"][0]["executor"].pop("function") == "tell"
    assert built == written
    assert document.from_dict(built | {"kind": "Workflow"} | _function(built)).digest == _digest(written)


def _function(value: dict[str, Any]) -> dict[str, Any]:
    value["spec"]["on_exit"][0]["executor"]["function"] = "tell"
    return value


def _digest(value: dict[str, Any]) -> str:
    return document.from_dict(_function(value)).digest


def test_nodes_made_by_hand_keep_the_names_of_documents(workflow: Workflow) -> None:
    workflow.add(Node(id="a", executor=HTTPExecutor(url="https://example.com", json={"x": 1}, method="POST")))
    (node,) = workflow.build().spec.nodes
    assert isinstance(node.executor, HTTPExecutor)
    assert node.executor.json_body == {"x": 1}


def test_a_signal_may_be_given_by_its_name_and_an_approval_without_anything(workflow: Workflow) -> None:
    workflow.wait("a", signal="go")
    workflow.wait("b", approval={})
    workflow.wait("c", approval=Approval())
    first, *others = (node.executor for node in workflow.build().spec.nodes)
    assert first == WaitExecutor(signal=Signal(name="go"))
    assert others == [WaitExecutor(approval=Approval())] * 2


def test_concurrency_may_be_a_number() -> None:
    workflow = Workflow("w", "1.0.0", concurrency=1)
    workflow.lua("a", "return 1")
    assert workflow.build().spec.concurrency == Concurrency()


@pytest.mark.parametrize("engine", ["gpu", {"pool": "gpu"}, RequiredEngine(pool="gpu"), {"pool": "gpu", "labels": {}}])
def test_an_engine_may_be_named_by_its_pool(engine: Any) -> None:
    workflow = Workflow("w", "1.0.0", engine=engine)
    workflow.lua("a", "return 1")
    built = workflow.build()
    assert built.to_dict()["spec"]["engine"] == {"pool": "gpu"}
    assert built.spec.engine.all_labels == {("pool", "gpu")}


class TestOnExit:
    def test_it_is_a_group_of_its_own(self, workflow: Workflow) -> None:
        work = workflow.lua("work", "return 1")
        tell = workflow.on_exit.lua("tell", "return nodes.work")
        tell >> workflow.on_exit.shell("tidy", "true")
        built = workflow.build().spec
        assert [node.id for node in built.nodes] == ["work"]
        assert [(node.id, node.dependencies) for node in built.on_exit] == [("tell", ()), ("tidy", ("tell",))]
        with pytest.raises(
            SpecError, match=r"<node 'work' of workflow 'w'> cannot be .* of the on_exit of workflow 'w'"
        ):
            work >> tell

    def test_functions_get_results_and_the_conclusion_by_name(self, workflow: Workflow) -> None:
        workflow.lua("load-data", "return 1")

        @workflow.on_exit.python
        def tell(load_data: int, execution: dict[str, str], nodes: dict[str, int]) -> None: ...

        (node,) = workflow.build().spec.on_exit
        assert node.dependencies == ()
        assert isinstance(node.executor, PythonExecutor)
        assert node.executor.args == {
            "load_data": '{{ nodes["load-data"] }}',
            "execution": "{{ execution }}",
            "nodes": {"load-data": '{{ nodes["load-data"] }}'},
        }
        assert "w@1.0.0.tell" in workflow.functions

    def test_what_cannot_be_bound_is_told_where_it_is(self, workflow: Workflow) -> None:
        workflow.lua("a", "return 1")
        workflow.on_exit.python("tell", lambda nobody: nobody)
        (message,) = _messages(workflow)
        assert message.startswith("spec.on_exit[0].executor.args: nothing is bound to parameter 'nobody'")


def test_the_key_is_bound_where_there_is_one() -> None:
    workflow = Workflow("w", "1.0.0", inputs={"execution": {"default": 1}})
    workflow.python("each", lambda key, item: (key, item), foreach="{a = 1}")
    workflow.python("once", lambda execution, key=None: (execution, key))
    assert _args(workflow, "each") == {"key": "{{ key }}", "item": "{{ item }}"}
    assert _args(workflow, "once") == {"execution": "{{ inputs.execution }}"}
