"""Which results and inputs the Lua of a document may read."""

from __future__ import annotations

from typing import Any

import pytest

from dagengine.errors import SpecError
from dagengine.spec import document


def _told(*nodes: dict[str, Any], **spec: Any) -> list[str]:
    lua = {"type": "lua", "code": "return 1"}
    value = {
        "metadata": {"id": "w", "version": "1.0.0"},
        "spec": {"nodes": [{"executor": lua, **node} for node in nodes], **spec},
    }
    try:
        document.from_dict(value)
    except SpecError as exc:
        return [problem.message for problem in exc.problems]
    return []


def _code(code: str) -> dict[str, Any]:
    return {"executor": {"type": "lua", "code": code}}


def test_ancestors_may_be_read_however_far_away() -> None:
    assert not _told(
        {"id": "a"},
        {"id": "b", "dependencies": ["a"]},
        {"id": "c", "dependencies": ["b"]},
        {
            "id": "d",
            "dependencies": ["c"],
            "foreach": "nodes.a",
            "when": "nodes.b",
            **_code("return nodes.a + nodes.c"),
        },
    )


@pytest.mark.parametrize(
    ("code", "messages"),
    [
        ("nodes.load - data", []),
        ("nodes.load-1", []),
        ("nodes.load-data", ['nodes.load-data is a subtraction in Lua; write nodes["load-data"]']),
        ("nodes.load-data-x", ['nodes.load-data is a subtraction in Lua; write nodes["load-data"]']),
        ("nodes['load-data']", []),
        ("nodes.end", ["'end' is a reserved word in Lua; write nodes[\"end\"]"]),
        ("nodes.if-else", ["'if' is a reserved word in Lua; write nodes[\"if\"]"]),
        ("nodes['end']", []),
        ("nodes.1st", ['nodes.1st is not Lua; write nodes["1st"]']),
        ("nodes.2nd", ["unknown node '2nd'"]),
        ("nodes.lod", ["unknown node 'lod'; did you mean 'load'?"]),
        ("nodes.lod-data", ["unknown node 'lod'; did you mean 'load-data'?"]),
        ("nodes.self", ["'self' reads its own result, which is not there before it ends"]),
        ("nodes[name]", []),
    ],
)
def test_ids_that_are_not_lua_names_need_brackets(code: str, messages: list[str]) -> None:
    before = [{"id": id_} for id_ in ("load", "load-data", "end", "1st")]
    names = [node["id"] for node in before]
    assert _told(*before, {"id": "self", "dependencies": names, "when": code}) == messages


def test_inputs_are_checked_only_where_some_are_declared() -> None:
    node = {"id": "a", "when": "inputs.limt and inputs.max-rows"}
    assert not _told(node)
    assert _told(node, inputs={"limit": {}, "max-rows": {}}) == [
        'inputs.max-rows is a subtraction in Lua; write inputs["max-rows"]',
        "unknown input 'limt'; did you mean 'limit'?",
    ]


def test_a_misspelt_dependency_is_told_once() -> None:
    told = _told({"id": "extract"}, {"id": "b", "dependencies": ["extrat"], "when": "nodes.extract"})
    assert told == ["unknown node 'extrat'; did you mean 'extract'?"]


def test_nodes_in_a_cycle_get_the_cycle_and_nothing_else() -> None:
    told = _told(
        {"id": "a", "dependencies": ["b"], "when": "nodes.c"},
        {"id": "b", "dependencies": ["a"]},
        {"id": "c", "dependencies": ["b"], "when": "nodes.a"},
    )
    assert told == ["the nodes wait for each other: a → b → a"]


def test_nodes_at_the_end_read_all_others_and_those_before_them() -> None:
    nodes = [{"id": "a"}, {"id": "b"}]
    last = {"executor": {"type": "lua", "code": "return nodes.a + nodes.b + nodes.first"}}
    first = {"id": "first", "when": 'execution.status == "failed"', **_code("return nodes.a")}
    assert not _told(*nodes, on_exit=[first, {"id": "last", "dependencies": ["first"], **last}])
    assert _told(*nodes, on_exit=[first, {"id": "last", **last}]) == [
        "'first' is not upstream of 'last': add it to dependencies"
    ]


def test_a_chunk_may_use_the_names_of_other_places_for_itself() -> None:
    assert not _told({"id": "a", **_code("local t = {}; for key, value in pairs(t) do t[key] = value end; return t")})
    assert not _told({"id": "a", **_code("response = {}; execution = 1; return response, execution, key")})


def test_the_key_of_concurrency_reads_inputs_alone() -> None:
    assert not _told({"id": "a"}, concurrency={"key": 'x-{{ inputs.tenant:lower() }}-{{ inputs["the shop"].id }}'})
    assert _told({"id": "a"}, concurrency={"key": "{{ nodes.b }} {{ nodes[x] }} {{ key }}"}) == [
        "`key` is not there yet: the key is made before anything runs, of inputs alone",
        "`nodes` is not there yet: the key is made before anything runs, of inputs alone",
    ]


def test_item_and_index_belong_to_foreach() -> None:
    python = {"type": "python", "function": "f", "args": {"x": "{{ item + index }}"}}
    told = "`{}` is there only in a node with `foreach`".format
    assert _told({"id": "a", "executor": python}) == [told("index"), told("item")]
    assert not _told({"id": "a", "foreach": "{1}", "executor": python})
    assert _told({"id": "a", "foreach": "{item}"}) == ["`item` is not there yet: `foreach` makes it"]
    assert _told({"id": "a", "foreach": "{1}"}, outputs={"x": ["{{ index }}"]}) == [told("index")]
    assert not _told({"id": "a", **_code("local item = 1; return item")})
