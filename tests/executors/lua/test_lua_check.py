"""Syntax errors of a document, found without running anything."""

from __future__ import annotations

from dagengine.errors import Problem
from dagengine.executors.lua.check import check
from dagengine.spec.model import Document


def document(*nodes, outputs=None, **spec):
    return Document.model_validate(
        {
            "apiVersion": "workflows/v1",
            "kind": "Workflow",
            "metadata": {"id": "w", "version": "1.0.0"},
            "spec": {"nodes": list(nodes), "outputs": outputs or {}, **spec},
        }
    )


def lua(id, code="return 1", **more):
    return {"id": id, "executor": {"type": "lua", "code": code}, **more}


def test_a_right_document_has_no_problems():
    nodes = [lua("a"), lua("b", foreach="nodes.a", when="inputs.x > 1 -- why")]
    assert list(check(document(*nodes, outputs={"x": "{{ nodes.a }} and {{ {{1}} }}", "y": 5}))) == []


def test_every_place_of_lua_is_checked_and_named():
    nodes = [
        lua("a", "local x = 1\nreturn x x"),
        lua("b", foreach="1 +", when="a b"),
        {"id": "c", "executor": {"type": "python", "function": "f", "args": {"x": [{"y": "{{ 1 + }}"}]}}},
    ]
    found = check(document(*nodes, outputs={"total": "{{ nodes. }}", "open": "{{ 1", "fine": "{{ 1 }}"}))
    assert [(problem.path, problem.message) for problem in found] == [
        ("spec.nodes[0].executor.code", "not valid Lua: line 2: <eof> expected near 'x'"),
        ("spec.nodes[1].foreach", "not valid Lua: line 1: unexpected symbol near <eof>"),
        ("spec.nodes[1].when", "not valid Lua: line 1: <eof> expected near 'b'"),
        ("spec.nodes[2].executor.args.x[0].y", "not valid Lua in {{ 1 + }}: unexpected symbol near <eof>"),
        ("spec.outputs.total", "not valid Lua in {{ nodes. }}: <name> expected near <eof>"),
        ("spec.outputs.open", "the template's '{{' has no '}}'"),
    ]


def test_problems_can_be_merged_with_others():
    (problem,) = check(document(lua("a", "x = = 1")))
    assert problem == Problem(
        path="spec.nodes[0].executor.code", message="not valid Lua: line 1: unexpected symbol near '='"
    )


def test_nothing_is_run():
    assert (
        list(check(document(lua("a", "while true do end"), lua("b", "return (function() while true do end end)()"))))
        == []
    )


def test_ten_thousand_nodes_of_different_code_are_checked():
    nodes = [lua(f"n{i}", f"return {{value = {i}}}") for i in range(10_000)]
    nodes.append(lua("last", "return }"))
    assert [problem.path for problem in check(document(*nodes))] == ["spec.nodes[10000].executor.code"]


def test_code_is_looked_for_in_requests_programs_waits_keys_modules_and_at_the_end():
    http = {"type": "http", "url": "https://example.com/{{ + }}", "json": ["{{ - }}"], "select": "response +"}
    shell = {"type": "shell", "script": "ls", "env": {"A": "{{ x y }}"}, "stdin": {"b": "{{ * }}"}}
    wait = {"type": "wait", "signal": {"name": "go-{{ / }}"}}
    found = check(
        document(
            {"id": "a", "cache": {"key": "{{ 1 + }}"}, "executor": http},
            {"id": "b", "executor": shell},
            {"id": "c", "executor": wait},
            modules={"rows": "return {", "fine": "return {}"},
            concurrency={"key": "{{ .. }}"},
            on_exit=[lua("d", "retrun 1")],
        )
    )
    assert [problem.path for problem in found] == [
        "spec.nodes[0].cache.key",
        "spec.nodes[0].executor.url",
        "spec.nodes[0].executor.json[0]",
        "spec.nodes[0].executor.select",
        "spec.nodes[1].executor.env.A",
        "spec.nodes[1].executor.stdin.b",
        "spec.nodes[2].executor.signal.name",
        "spec.on_exit[0].executor.code",
        "spec.concurrency.key",
        "spec.modules.rows",
    ]
