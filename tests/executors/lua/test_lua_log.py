"""`print` and `log.*`: lines beside the result, in order, bounded."""

from __future__ import annotations

import pytest


@pytest.fixture
def logged(lua):
    """Runs code, returns its outcome and its lines as (level, text)."""

    def run(code: str, **options: object) -> tuple[object, list[tuple[str, str]]]:
        lines: list[tuple[str, str]] = []
        outcome = lua.raw(code, run={"lines": lambda level, text: lines.append((level, text))}, **options)
        return outcome, lines

    return run


def test_print_joins_its_arguments_as_lua_does(logged):
    outcome, lines = logged("print('a', 1, 2.5, true, nil, json.null) print() return 1")
    assert outcome == b"1"
    assert lines == [("info", "a\t1\t2.5\ttrue\tnil\tnull"), ("info", "")]


def test_each_level_has_its_function(logged):
    assert logged("log.debug('a') log.info('b', 1) log.warning('c') log.error('d')")[1] == [
        ("debug", "a"),
        ("info", "b\t1"),
        ("warning", "c"),
        ("error", "d"),
    ]


def test_a_text_of_several_lines_is_several_lines(logged):
    assert logged("print('a\\nb\\n\\nc\\n')")[1] == [("info", text) for text in ("a", "b", "", "c")]


def test_lines_before_an_error_are_kept(logged):
    outcome, lines = logged("print('before') error('x')")
    assert outcome.message == "x"
    assert lines == [("info", "before")]
    outcome, lines = logged("print('before') return print")
    assert outcome.message == "result is a function"
    assert lines == [("info", "before")]
    outcome, lines = logged("print('before') local t = {} while true do t[#t + 1] = ('x'):rep(1000000) .. #t end")
    assert outcome.type == "MemoryLimit"
    assert lines == [("info", "before")]


def test_lines_of_one_attempt_do_not_reach_the_next(logged, lua):
    logged("print('mine') error('x')")
    assert logged("return 1")[1] == []
    assert lua.value("print('nobody listens') return 1") == 1
    assert logged("print('mine')")[1] == [("info", "mine")]


def test_lines_come_while_the_script_still_runs(lua):
    seen = []
    runtime = lua.runtime

    def line(level, text):
        seen.append(text)
        runtime.stop()

    error = lua.error("print('first') while true do end", run={"lines": line, "timeout": 60_000_000})
    assert error.type == "Cancelled"
    assert seen == ["first"]


def test_no_line_is_lost_or_doubled_by_being_taken_early(logged):
    code = "for i = 1, 900 do print(i) for _ = 1, 2000 do end end"
    assert [text for _, text in logged(code)[1]] == [str(i) for i in range(1, 901)]


def test_too_many_lines_are_cut_and_said_so(logged):
    outcome, lines = logged("for i = 1, 5000 do print(i) end return 1")
    assert outcome == b"1"
    assert len(lines) == 1001
    assert lines[999] == ("info", "1000")
    assert lines[1000] == ("warning", "log truncated: an attempt may write 1000 lines and 1048576 bytes")


def test_too_many_bytes_are_cut_and_said_so(logged):
    outcome, lines = logged("for i = 1, 50 do print(('x'):rep(60000)) end return 1")
    assert outcome == b"1"
    assert len(lines) == 18
    assert lines[-1][1].startswith("log truncated")


def test_a_long_line_is_cut_between_characters(logged):
    _, lines = logged("print(('é'):rep(40000))")
    assert lines == [("info", "é" * 32768 + " [cut: the line has 80000 bytes]")]
    _, lines = logged("print('x' .. ('é'):rep(40000))")
    assert lines == [("info", "x" + "é" * 32767 + " [cut: the line has 80001 bytes]")]


def test_bytes_that_are_not_utf8_are_shown_as_replacement(logged):
    assert logged("print('a\\xffb')")[1] == [("info", "a\ufffdb")]
