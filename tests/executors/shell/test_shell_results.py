"""Results and failures of shell nodes: the last line, $DAG_OUTPUT, exit codes, what cannot be started."""

from __future__ import annotations

import msgspec
import pytest

from dagengine.executors.base import MAX_RESULT


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("", None),
        ("echo", None),
        ("echo working; echo '{\"rows\": 3}'", {"rows": 3}),
        ("echo '[1, 2.50, null]'", [1, 2.5, None]),
        ("printf 42", 42),
        ("echo done; echo; echo '  '", "done"),
        ("echo 12:30", "12:30"),
        ("echo 007", "007"),
        ("echo NaN", "NaN"),
        ("printf 'ends with a carriage return\\r\\n'", "ends with a carriage return"),
        ("printf 'not \\377 text\\n'", "not \ufffd text"),
        ("echo '{\"half\": '", '{"half":'),
    ],
)
async def test_the_last_line_is_the_result(shell, script, result) -> None:
    assert await shell.value(script or ":") == result


async def test_a_command_is_taken_word_by_word(shell) -> None:
    assert await shell.value(command=("printf", "%s|", "a b", "$HOME", "*")) == "a b|$HOME|*|"


async def test_numbers_keep_the_digits_they_were_written_with(shell) -> None:
    assert (await shell.run("echo '[1.50,  123456789012345678901234567890]'")).result == (
        b"[1.50,123456789012345678901234567890]"
    )


async def test_the_file_that_dag_output_names_is_the_result_once_it_was_written(shell) -> None:
    assert await shell.value('echo \'{"a":\n1}\' > "$DAG_OUTPUT"; echo 5') == {"a": 1}
    assert await shell.value(': > "$DAG_OUTPUT"; echo 5') == 5


async def test_a_file_that_is_not_json_is_no_result(shell) -> None:
    assert await shell.error("echo '{a: 1}' > $DAG_OUTPUT") == (
        "fail",
        "ResultError",
        "what the program wrote into $DAG_OUTPUT is not JSON",
    )


@pytest.mark.parametrize("script", ["ln -s /etc/hostname $DAG_OUTPUT", "mkfifo $DAG_OUTPUT", "mkdir $DAG_OUTPUT"])
async def test_only_a_plain_file_is_read(shell, script) -> None:
    conclusion, type, _ = await shell.error(script)
    assert (conclusion, type) == ("fail", "ResultError")


@pytest.mark.parametrize(
    "script",
    [
        "printf '%0200d' 0 | tr 0 x",
        "printf '\"%0200d\"' 0 > $DAG_OUTPUT",
        "printf '%060d' 0 | tr 0 '\\001'",  # a text whose JSON is longer than itself
    ],
)
async def test_a_result_is_bounded(shell, script) -> None:
    conclusion, type, message = await shell.error(script, output=100)
    assert (conclusion, type) == ("fail", "ResultTooLarge")
    assert "100 are the most" in message


async def test_the_engine_s_bound_holds_for_every_node(shell) -> None:
    script = f"head -c {MAX_RESULT} /dev/zero | tr '\\0' x"
    assert (await shell.error(script, output=MAX_RESULT * 2))[1] == "ResultTooLarge"
    assert len(await shell.value(f"head -c {MAX_RESULT - 2} /dev/zero | tr '\\0' x")) == MAX_RESULT - 2


async def test_an_exit_code_is_a_failure_with_the_last_words(shell) -> None:
    outcome = await shell.run("echo 1; for i in 1 2 3 4 5 6 7; do echo line $i >&2; done; exit 3")
    assert outcome.conclusion == "fail"
    assert outcome.error is not None
    assert outcome.error.type == "ExitCode"
    assert outcome.error.message == "the program ended with exit code 3\n" + "\n".join(f"line {i}" for i in range(3, 8))
    assert msgspec.json.decode(outcome.error.details) == {"code": 3}


async def test_a_program_that_something_killed_has_not_said_no(shell) -> None:
    outcome = await shell.run("kill -SEGV $$")
    assert (outcome.conclusion, outcome.error.type) == ("error", "Killed")
    assert outcome.error.message == "the program was killed by SIGSEGV"
    assert msgspec.json.decode(outcome.error.details) == {"signal": "SIGSEGV"}


@pytest.mark.parametrize(
    ("command", "type"),
    [
        (("no-such-program",), "NotFound"),
        (("/no/such/program",), "NotFound"),
        (("/etc/passwd",), "NotExecutable"),
        (("/",), "NotExecutable"),
        (("echo", "x" * (3 << 20)), "TooLarge"),
        (("echo", "a\0b"), "UnusableValue"),
    ],
)
async def test_what_cannot_be_started_says_why(shell, command, type) -> None:
    conclusion, found, message = await shell.error(command=command)
    assert (conclusion, found) == ("fail", type)
    assert len(message) < 300


async def test_a_script_in_another_language(shell) -> None:
    script = "import json, os\nprint(json.dumps({'node': os.environ['DAG_NODE'], 'it': \"isn't\"}))"
    assert await shell.value(script, shell=("python3",)) == {"node": "n", "it": "isn't"}


async def test_a_script_stops_at_its_first_failing_command(shell) -> None:
    assert (await shell.error("false; echo 1"))[1] == "ExitCode"
    assert (await shell.error("echo $NOT_SET"))[1] == "ExitCode"


async def test_the_time_that_a_program_took_is_told(shell) -> None:
    assert 50_000 <= (await shell.run("sleep 0.05")).elapsed < 10_000_000
