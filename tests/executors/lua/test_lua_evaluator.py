"""Expressions and templates: values, types, texts, and errors that name the expression."""

from __future__ import annotations

import msgspec
import pytest

from dagengine.executors.lua.evaluator import LuaEvaluator


@pytest.fixture(scope="module")
def evaluator():
    return LuaEvaluator(timeout=200_000)


@pytest.fixture
def given_scope(scope):
    return scope(
        inputs={"limit": 3, "name": 'a "b"\n', "rows": [1, 2.0, {}], "none": None, "empty": []},
        nodes={"load": {"total": 5, "ratio": 2.0}, "load-data": "x"},
        env={"REGION": "north"},
        item={"year": 2012},
        index=0,
    )


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("inputs.limit > 0", b"true"),
        ("inputs.limit", b"3"),
        ("inputs.rows", b"[1,2.0,{}]"),
        ("inputs.empty", b"[]"),
        ("inputs.none", b"null"),
        ("nil", b"null"),
        ("nodes.load.total / 2", b"2.5"),
        ('nodes["load-data"] .. env.REGION', b'"xnorth"'),
        ("nodes.gone", b"null"),
        ("item.year + index", b"2013"),
        ("{a = 1}", b'{"a":1}'),
        ("json(inputs.rows)", b'"[1,2.0,{}]"'),
        ("json.decode('[1]')", b"[1]"),
        ("#inputs.rows > 2 and 'many' or 'few'", b'"many"'),
        ("math.max(1, 2) -- the larger", b"2"),
        ("\n  1 +\n  1\n", b"2"),
        ("(function() local s = 0 for _, n in ipairs({1, 2}) do s = s + n end return s end)()", b"3"),
        ("string.format('%03d', 7)", b'"007"'),
        ("('x'):rep(3)", b'"xxx"'),
        ("select(2, 'a', 'b')", b'"b"'),
        ("('a'):gsub('a', 'b')", b'"b"'),
    ],
)
def test_an_expression_has_a_json_value(evaluator, given_scope, code, value):
    evaluation = evaluator.expression(code, given_scope)
    assert (evaluation.error, evaluation.value) == (None, value)


def test_item_and_index_are_nil_outside_a_foreach(evaluator, scope):
    assert evaluator.expression("item == nil and index == nil", scope()).value == b"true"


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("1 +", "LuaSyntaxError", "unexpected symbol near <eof>"),
        ("1, 2", "LuaSyntaxError", "')' expected near ','"),
        ("1) or (2", "LuaSyntaxError", "<eof> expected near ')'"),
        ("", "LuaSyntaxError", "unexpected symbol near ')'"),
        ("return 1", "LuaSyntaxError", "unexpected symbol near 'return'"),
        ("x = 1", "LuaSyntaxError", "<eof> expected near '='"),
        ("nodes.gone.x", "LuaError", "attempt to index a nil value (field 'gone')"),
        ("input.limit > 0", "LuaError", "'input' is not defined"),
        ("print('x')", "LuaError", "'print' is not defined"),
        ("os.time()", "LuaError", "'os' is not defined"),
        ("log.info('x')", "LuaError", "'log' is not defined"),
        ("coroutine.running()", "LuaError", "'coroutine' is not defined"),
        ("math.random()", "LuaError", "attempt to call a nil value (field 'random')"),
        ("error('no')", "LuaError", "no"),
        ("rawset(inputs, 'x', 1)", "LuaError", "attempt to modify a read-only value (inputs.x)"),
        ("string.upper", "ResultError", "value is a function"),
        ("{1, nil, 3}", "ResultError", "value has a hole: [2] is nil; use json.null"),
        ("0/0", "ResultError", "value is NaN, which JSON cannot hold"),
        ("(function() while true do end end)()", "Timeout", "the script ran longer than its timeout of 0.2 s"),
    ],
)
def test_an_expression_that_has_no_value_says_why(evaluator, given_scope, code, kind, message):
    error = evaluator.expression(code, given_scope).error
    assert error is not None
    assert (error.type, error.message) == (kind, message)
    assert evaluator.expression("1", given_scope).value == b"1"


def test_the_line_of_an_error_is_within_the_expression(evaluator, given_scope):
    assert evaluator.expression("nodes.gone.x", given_scope).error.line == 1
    assert evaluator.expression("1 +\nnodes.gone.x", given_scope).error.line == 2


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("plain", "plain"),
        ("", ""),
        (5, 5),
        (None, None),
        ({"a": [1.0, True, {}]}, {"a": [1.0, True, {}]}),
        ("{{ inputs.limit }}", 3),
        ("{{ inputs.rows }}", [1, 2.0, {}]),
        ("{{ inputs.empty }}", []),
        ("{{ nodes.gone }}", None),
        ("{{inputs.limit > 1}}", True),
        ("n={{ inputs.limit }}", "n=3"),
        ("{{ inputs.limit }}{{ inputs.limit }}", "33"),
        ("{{ nodes.load.ratio }} {{ true }} {{ nil }} {{ inputs.none }}", "2.0 true null null"),
        ("<{{ inputs.name }}>", '<a "b"\n>'),
        ("rows: {{ inputs.rows }}", "rows: [1,2.0,{}]"),
        ("{{ {1, {2}} }}", [1, [2]]),
        ("{{ '}}' }}!", "}}!"),
        ("\\{{ no }}", "{{ no }}"),
        (' "quoted" \\ {{ index }}\té', ' "quoted" \\ 1\té'),
        ({"total": "{{ nodes.load.total }}", "list": ["{{ item }}", "y{{ item.year }}"], "n": 1}, None),
    ],
)
def test_a_template_keeps_types_and_fills_texts(evaluator, given_scope, template, value):
    evaluation = evaluator.template(template, given_scope)
    assert evaluation.error is None
    if isinstance(template, dict) and "total" in template:
        value = {"total": 5, "list": [{"year": 2012}, "y2012"], "n": 1}
    assert msgspec.json.decode(evaluation.value) == value


@pytest.mark.parametrize(
    ("template", "kind", "message"),
    [
        ("{{ 1 + }}", "LuaSyntaxError", "unexpected symbol near <eof> (in {{ 1 + }})"),
        (
            {"out": ["a", "x {{ nodes.gone.y }}"]},
            "LuaError",
            "attempt to index a nil value (field 'gone') (in {{ nodes.gone.y }} at out[1])",
        ),
        (
            {"a": "{{ 1 }}", "b": "{{ string.upper }}"},
            "ResultError",
            "value is a function (in {{ string.upper }} at b)",
        ),
        ("x {{ string.upper }}", "ResultError", "value is a function (in {{ string.upper }})"),
        ("{{ }}", "TemplateError", "the template has an empty {{ }}"),
        ("{{ 1", "TemplateError", "the template's '{{' has no '}}'"),
        ({"a": object()}, "TemplateError", "the template is not JSON"),
    ],
)
def test_a_template_that_cannot_be_filled_names_its_expression(evaluator, given_scope, template, kind, message):
    error = evaluator.template(template, given_scope).error
    assert error is not None
    assert error.type == kind
    assert message in error.message


def test_a_template_of_many_expressions_has_one_size_limit(given_scope):
    small = LuaEvaluator(max_output=100)
    assert small.template(["{{ ('x'):rep(40) }}"] * 2, given_scope).error is None
    error = small.template(["{{ ('x'):rep(40) }}"] * 3, given_scope).error
    assert error is not None
    assert error.message == "the value is bigger than 100 bytes of JSON"


def test_an_evaluation_that_wants_too_much_memory_is_stopped(given_scope):
    small = LuaEvaluator(max_memory=8 << 20)
    error = small.expression("('x'):rep(100000000)", given_scope).error
    assert error is not None
    assert error.type == "MemoryLimit"
    assert small.template("{{ 1 }}", given_scope).value == b"1"


def test_expressions_cannot_disturb_each_other(evaluator, given_scope):
    assert evaluator.expression("(function() x = 1 return x end)()", given_scope).value == b"1"
    assert evaluator.expression("(function() return x end)()", given_scope).error.message == "'x' is not defined"
