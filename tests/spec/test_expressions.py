"""What Lua code mentions, and templates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lupa import lua55

from dagengine.errors import SpecError
from dagengine.spec import expression, lua_tokens
from dagengine.spec.expression import Code, Text


@pytest.mark.parametrize(
    ("code", "nodes"),
    [
        ("nodes.a", {"a"}),
        ("nodes . a", {"a"}),
        ("nodes\n  .a.b.nodes", {"a"}),
        ("nodes.a + nodes.b_2", {"a", "b_2"}),
        ('nodes["load-data"].rows', {"load-data"}),
        ("nodes['load-data']", {"load-data"}),
        ("nodes[ [[load-data]] ]", {"load-data"}),
        ("#nodes.a", {"a"}),
        ("not nodes.a", {"a"}),
        ("f(nodes.a, x)", {"a"}),
        ("{nodes.a, nodes = nodes.b}", {"a", "b"}),
        ("{nodes.a; nodes = 1, [nodes.c] = 2}", {"a", "c"}),
        ("nodes.a:upper()", {"a"}),
        ("x.nodes.a", set()),
        ("x:nodes().a", set()),
        ("mynodes.a + nodes_.b", set()),
        ("'nodes.a' .. \"nodes.b\" .. [[nodes.c]] .. [==[ ]] nodes.d ]==]", set()),
        ("'it\\'s nodes.a' .. nodes.b", {"b"}),
        ("1 -- nodes.a\n + nodes.b", {"b"}),
        ("1 --[[ nodes.a\n nodes.b ]] + nodes.c", {"c"}),
        ("1 --[==[ nodes.a ]] ]==] + nodes.c", {"c"}),
        ("--[[ nodes.a", set()),
        ("nodes.a..nodes.b", {"a", "b"}),
        ("1 ..nodes.b", {"b"}),
        ("goto nodes", set()),
        ("::nodes:: x()", set()),
        ("inputs.a == nodes.b", {"b"}),
        ("", set()),
    ],
)
def test_nodes_that_are_mentioned(code: str, nodes: set[str]) -> None:
    found = expression.references(code)
    assert found.nodes == nodes
    assert not found.dynamic_nodes


@pytest.mark.parametrize(
    "code",
    [
        "nodes[name]",
        "pairs(nodes)",
        "local all = nodes",
        'nodes["a" .. x]',
        'nodes["a\\x41"]',
        "local nodes = f(); return nodes.a",
        "nodes = {}; return nodes.a",
        "function f(x, nodes) return nodes.a end",
        "function(nodes) return nodes.a end",
        "for _, nodes in pairs(x) do print(nodes.a) end",
        "local a <const>, nodes <close> = 1, 2; return nodes.a",
    ],
)
def test_what_cannot_be_seen_from_outside_is_dynamic(code: str) -> None:
    found = expression.references(code)
    assert found.dynamic_nodes
    assert not found.nodes


def test_key_execution_and_response() -> None:
    found = expression.references("key == response.status and execution.status")
    assert (found.key, found.execution, found.response, found.item) == (True, True, True, False)
    assert not expression.references("x.key + {response = 1}.response").response


def test_inputs_item_and_index() -> None:
    found = expression.references("inputs.limit > index and item.inputs and inputs['a b']")
    assert found.inputs == {"limit", "a b"}
    assert found.item
    assert found.index
    assert not expression.references("for index, item in ipairs(inputs.rows) do f(index, item) end").item
    assert not expression.references("{item = 1, index = 2}").index
    assert expression.references("f(inputs)").dynamic_inputs


@pytest.mark.parametrize(
    ("code", "name", "joined"),
    [
        ("nodes.load-data", "load", "load-data"),
        ("nodes.load-data-2.rows", "load", "load-data-2"),
        ("nodes.load - data", "load", ""),
        ("nodes.load -data", "load", ""),
        ("nodes.count-1", "count", "count-1"),
        ("nodes.end", "end", "end"),
        ("nodes.end-date", "end", "end-date"),
        ("nodes.1st.x", "1st", "1st"),
        ("nodes.1-a", "1-a", "1-a"),
        ("nodes.2024", "2024", "2024"),
    ],
)
def test_what_lua_reads_and_what_was_probably_meant(code: str, name: str, joined: str) -> None:
    (mention,) = expression.references(code).mentions
    assert (mention.name, mention.joined) == (name, joined)


def test_mentions_know_their_line() -> None:
    code = "local a = nodes.a\n\n-- nodes.x\nreturn inputs.b"
    assert [(mention.name, mention.line) for mention in expression.references(code).mentions] == [("a", 1), ("b", 4)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("plain", (Text("plain"),)),
        ("{{ nodes.a }}", (Code("nodes.a"),)),
        ("{{nodes.a}}", (Code("nodes.a"),)),
        ("{{\n a\n}}", (Code("a"),)),
        ("a {{ b }} c", (Text("a "), Code("b"), Text(" c"))),
        ("{{ a }}{{ b }}", (Code("a"), Code("b"))),
        ("{{ {a = {b = 1}} }}", (Code("{a = {b = 1}}"),)),
        ("{{{a={b=1}}}}", (Code("{a={b=1}}"),)),
        ("{{ '}}' }}", (Code("'}}'"),)),
        ("{{ [[ }} ]] }}!", (Code("[[ }} ]]"), Text("!"))),
        ("{{ a --[[ }} ]] }}", (Code("a --[[ }} ]]"),)),
        ("a }} b", (Text("a }} b"),)),
        ("{ {a} }", (Text("{ {a} }"),)),
        (r"\{{ a }}", (Text("{{ a }}"),)),
        (r"\\{{ a }}", (Text("\\"), Code("a"))),
        (r"\\\{{ a }}", (Text(r"\{{ a }}"),)),
        (r"C:\dir {{ a }}\n", (Text("C:\\dir "), Code("a"), Text(r"\n"))),
        (r"\{{ {{ a }} \{{", (Text("{{ "), Code("a"), Text(" {{"))),
    ],
)
def test_templates_are_cut_into_text_and_code(text: str, parts: tuple[Text | Code, ...]) -> None:
    assert expression.parse_template(text) == parts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ }}", "the template has an empty {{ }}"),
        ("{{}}", "the template has an empty {{ }}"),
        ("x {{ a", "the template's '{{' has no '}}'"),
        ("{{ a }", "the template has a '}' that closes nothing"),
        ("{{ {a }}", "the template has a '}' that closes nothing"),
        ("{{ 'a }}", "the template's '{{' has no '}}'"),
        ("one\ntwo {{ }}", "the template has an empty {{ }} (in line 2 of the text)"),
    ],
)
def test_templates_that_do_not_end_or_are_empty(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        expression.parse_template(text)
    assert str(caught.value) == message


@given(st.text(alphabet="{}\\ a'\n", max_size=40))
def test_escaping_brings_any_text_through_a_template(text: str) -> None:
    escaped = []
    for part in text.split("{{"):
        slashes = len(part) - len(part.rstrip("\\"))
        escaped.append(part + "\\" * slashes)
    whole = "\\{{".join([*escaped[:-1], text.split("{{")[-1]])
    parts = expression.parse_template(whole)
    assert "".join(part.value for part in parts if isinstance(part, Text)) == text
    assert all(isinstance(part, Text) for part in parts)


@given(st.text(alphabet="nodes.inputs[]{}()=-'\"\\ \n;,:az09<>~", max_size=60))
def test_references_never_fail(code: str) -> None:
    expression.references(code)


def test_the_reserved_words_are_lua_s() -> None:
    runtime = lua55.LuaRuntime()

    def is_field(word: str) -> bool:
        try:
            runtime.execute(f"return ({{}}).{word}")
        except lua55.LuaSyntaxError:
            return False
        return True

    assert not any(map(is_field, lua_tokens.RESERVED))
    assert all(map(is_field, ["nodes", "item", "self", "global", "print", "_ENV"]))


def test_long_code_takes_linear_time() -> None:
    code = "local t = nodes.a.b - inputs.c -- [[ {{ \n" * 20_000
    assert len(expression.references(code).mentions) == 40_000
    assert expression.parse_template("{{ nodes.a }} " * 20_000)[0] == Code("nodes.a")
