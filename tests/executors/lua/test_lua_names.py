"""Misspelt names are found where they cannot be meant, and nowhere else."""

from __future__ import annotations

import pytest

from dagengine.executors.lua.check import check
from dagengine.executors.lua.names import EXPRESSION, MODULE, SCRIPT, unknown
from dagengine.spec.model import Document


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("return inputz.limit", "unknown name 'inputz'; did you mean 'inputs'?"),
        ("prnt('x')", "unknown name 'prnt'; did you mean 'print'?"),
        ("prnt 'x'", "unknown name 'prnt'; did you mean 'print'?"),
        ("node.a.x = 1", "unknown name 'node'; did you mean 'nodes'?"),
        ("local total = 1\nreturn totel:x()", "unknown name 'totel'; did you mean 'total'?"),
        ("return {rows = rowz[1]}", "unknown name 'rowz'"),
        ("return io.open('x')", "'io' is not available in the sandbox"),
        ("local f = load('x')", "'load' is not available in the sandbox"),
        ("local function f(a) return a end\nreturn f(b.c)", "unknown name 'b'"),
    ],
)
def test_a_name_that_can_only_be_a_mistake_is_found(code, message):
    (found,) = unknown(code, SCRIPT)
    assert found.message == message
    assert found.line == code.count("\n") + 1


@pytest.mark.parametrize(
    "code",
    [
        "if debug_mode then return debug_mode.x end",
        "return foo",
        "return foo and foo.x",
        "return type(foo)",
        "x = {} return x.y",
        "x, y = {}, {} return y.z",
        "function helper() return 1 end return helper()",
        "local a <const>, b <close> = {}, nil return a.x, b.x",
        "for k, v in pairs(inputs) do k.x = v.y end",
        "return (function(a, ...rest) return a.x, rest.n end)(1)",
        "global x; x = {} return x.y",
        "global function f() end return f()",
        "local t = {inputz = 1, other = 2} return t.inputz.x, t:m()",
        "goto done ::done:: return 1",
        "return _G.foo.x, foo.x",
        "local _ENV = {foo = {}} return foo.x",
        "return 'inputz.x' -- inputz.y",
        "return nodes.a.b, env.X, item.x, index, key:upper(), execution.status, json(1), re.find('a', 'b'), fail('x')",
        "local s = 'a\\z\n  b' return inputz.x",
        "repeat local done = f ~= nil until done",
    ],
)
def test_a_name_that_may_be_meant_is_left_alone(code):
    assert unknown(code, SCRIPT) == []


def test_in_an_expression_any_unknown_name_is_wrong():
    assert [found.name for found in unknown("inputs.a and foo == bar", EXPRESSION, expression=True)] == ["foo", "bar"]
    assert unknown("(function(a) local b = a return b end)(item)", EXPRESSION, expression=True) == []
    assert [found.name for found in unknown("print(1)", EXPRESSION, expression=True)] == ["print"]


def test_a_module_is_told_that_it_sees_no_scope():
    (found,) = unknown("return {n = inputs.limit}", MODULE)
    assert found.message == "a module does not see 'inputs': give it what it needs as an argument"


def test_code_of_any_length_is_looked_at_in_linear_time():
    code = "return {" + ", ".join(f"a{i} = x{i % 7}.y" for i in range(20_000)) + "}"
    assert [found.name for found in unknown(code, SCRIPT)] == [f"x{i}" for i in range(7)]


def test_the_check_of_a_document_names_the_place():
    document = Document.model_validate(
        {
            "apiVersion": "workflows/v1",
            "kind": "Workflow",
            "metadata": {"id": "w", "version": "1.0.0"},
            "spec": {
                "modules": {"good": "return {}", "bad": "local x = 1\nreturn }", "lost": "return nodes.a.x"},
                "outputs": {"total": "{{ nodez.a }}"},
                "nodes": [
                    {"id": "a", "executor": {"type": "lua", "code": "local x = 1\nreturn inputz.x"}},
                    {
                        "id": "b",
                        "when": "imputs.x",
                        "executor": {"type": "http", "url": "{{ input.url }}", "select": "response.body and foo"},
                    },
                    {"id": "c", "cache": {"key": "{{ itm }}"}, "executor": {"type": "lua", "code": "return 1"}},
                ],
                "on_exit": [{"id": "d", "executor": {"type": "lua", "code": "return executoin.status"}}],
            },
        }
    )
    assert [(problem.path, problem.message) for problem in check(document)] == [
        ("spec.nodes[0].executor.code", "line 2: unknown name 'inputz'; did you mean 'inputs'?"),
        ("spec.nodes[1].when", "unknown name 'imputs'; did you mean 'inputs'?"),
        ("spec.nodes[1].executor.url", "unknown name 'input'; did you mean 'inputs'? in {{ input.url }}"),
        ("spec.nodes[1].executor.select", "unknown name 'foo'"),
        ("spec.nodes[2].cache.key", "unknown name 'itm'; did you mean 'item'? in {{ itm }}"),
        ("spec.on_exit[0].executor.code", "unknown name 'executoin'; did you mean 'execution'?"),
        ("spec.outputs.total", "unknown name 'nodez'; did you mean 'nodes'? in {{ nodez.a }}"),
        ("spec.modules.bad", "not valid Lua: line 2: unexpected symbol near '}'"),
        ("spec.modules.lost", "a module does not see 'nodes': give it what it needs as an argument"),
    ]
