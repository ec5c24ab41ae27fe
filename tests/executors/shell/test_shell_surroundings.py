"""What a program finds around it: environment, standard input, directory, secrets, limits."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dagengine.clock import SystemClock
from dagengine.executors.shell import Limits, Programs, environment


async def test_the_environment_is_clean(shell, monkeypatch) -> None:
    monkeypatch.setenv("DAGENGINE_TOKEN", "not for programs")
    await shell.run(command=("env",))
    names = {line.partition("=")[0] for line in shell.printed}
    assert names == {name for name in environment.PASSED if name in os.environ} | {
        "TMPDIR",
        "DAG_EXECUTION",
        "DAG_WORKFLOW",
        "DAG_VERSION",
        "DAG_NODE",
        "DAG_ATTEMPT",
        "DAG_IDEMPOTENCY_KEY",
        "DAG_INPUTS",
        "DAG_OUTPUT",
    }


async def test_a_program_knows_which_attempt_it_is(shell) -> None:
    script = 'echo "$DAG_EXECUTION $DAG_WORKFLOW $DAG_VERSION $DAG_NODE $DAG_INDEX $DAG_ATTEMPT $DAG_IDEMPOTENCY_KEY"'
    assert await shell.value(script, index=4, attempt=2) == "e-1 w 1.2.0 n 5 2 e-1/n/1"
    assert await shell.value("echo ${DAG_INDEX-none}") == "none"


async def test_the_node_s_variables_win_over_the_workflow_s_and_these_over_the_engine_s(shell) -> None:
    given = {"LANG": "workflow", "A": "workflow", "with=sign": "never", "B": "workflow"}
    script = 'echo "$LANG $A $B"'
    assert await shell.value(script, env_of_workflow=given, env={"A": "node"}) == "workflow node workflow"


async def test_evaluated_templates_are_used_and_keep_their_types(shell) -> None:
    args = {"env": {"N": 3, "O": {"a": [1]}, "T": "$(touch x) `id`", "NONE": None}, "stdin": {"b": 2}}
    script = 'echo "$N $O $T ${NONE-unset}"; cat'
    options = {"env": dict.fromkeys(args["env"], "{{ x }}"), "stdin": "{{ x }}", "args": args}
    assert await shell.value(script, **options) == {"b": 2}
    assert shell.printed[0] == '3 {"a":[1]} $(touch x) `id` unset'


@pytest.mark.parametrize(
    ("stdin", "read"), [(None, ""), ("", ""), ("two\nlines", "two\nlines"), ([1], "[1]\n"), (False, "false\n")]
)
async def test_standard_input_is_a_text_or_json(shell, stdin, read) -> None:
    assert await shell.value("wc -c", stdin=stdin) == len(read)
    await shell.run("cat", stdin=stdin)
    assert shell.printed[1:] == read.splitlines()


async def test_standard_input_may_be_larger_than_a_pipe(shell) -> None:
    assert await shell.value("wc -c", stdin="x" * (3 << 20)) == 3 << 20
    assert await shell.value("exec 0<&-; echo 1", stdin="x" * (3 << 20)) == 1


async def test_the_inputs_of_the_execution_are_a_file(shell) -> None:
    assert await shell.value('cat "$DAG_INPUTS"', inputs={"day": "2026-01-31"}) == {"day": "2026-01-31"}


async def test_an_attempt_has_a_directory_of_its_own_which_is_removed(shell, temporary) -> None:
    script = 'ls -A; touch here "$TMPDIR/there"; mkdir -p locked/in; chmod 0 locked; echo "$PWD $TMPDIR"'
    first = await shell.value(script)
    second = await shell.value(script)
    assert first != second
    work, tmp = map(Path, first.split())
    assert work.parent == tmp.parent
    assert work.is_relative_to(temporary)
    # `new_shell` sees to it that nothing is left when the executor was closed
    assert len(shell.lines) == 2, "a directory was not empty at the beginning"


async def test_the_operator_lets_more_of_the_environment_through(job, monkeypatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    seen = environment.inherited(os.environ, ["HTTPS_PROXY", "NOT_SET"])
    assert seen["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert "NOT_SET" not in seen
    await Programs(log=lambda line: None, clock=SystemClock(), passed=["HTTPS_PROXY"]).close()


async def test_no_descriptor_of_the_engine_reaches_a_program(shell, tmp_path) -> None:
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        listing = await shell.value(
            "import os, json\nprint(json.dumps(os.listdir('/proc/self/fd')))", shell=("python3",)
        )
    assert set(listing) <= {"0", "1", "2", "3"}  # the third is what lists them


async def test_a_program_gets_no_new_rights(shell) -> None:
    assert await shell.value("grep NoNewPrivs /proc/self/status | tr -dc 0-9") == 1


class TestSecrets:
    async def test_they_come_as_variables(self, new_shell) -> None:
        shell = new_shell({"DB_PASSWORD": "correct horse"})
        assert await shell.value('printf "$PW" | wc -c', secrets={"PW": "db-password"}) == len("correct horse")

    async def test_one_that_the_engine_does_not_know_is_an_error_that_names_it(self, new_shell) -> None:
        conclusion, type, message = await new_shell().error("true", secrets={"PW": "db-password"})
        assert (conclusion, type) == ("error", "SecretMissing")
        assert "'db-password'" in message
        assert "DAG_SECRET_DB_PASSWORD" in message

    async def test_what_a_program_prints_of_them_is_masked_everywhere(self, new_shell) -> None:
        shell = new_shell({"TOKEN": 'se"cret-1', "PIN": "99173"})
        secrets = {"TOKEN": "token", "PIN": "pin"}
        script = 'echo "the $TOKEN"; echo "is $TOKEN$PIN" >&2; echo "$(printf %s "$TOKEN" | base64)"; echo "$PIN"'
        outcome = await shell.run(script, secrets=secrets)
        assert sorted(shell.printed) == ["***", "***", "is ******", "the ***"]
        assert json.loads(outcome.result) == "***"

        result = await shell.value(
            'import json, os\nt = os.environ["TOKEN"]\nprint(json.dumps({t: [t, 99173, 99174, True, None]}))',
            shell=("python3",),
            secrets=secrets,
        )
        assert result == {"***": ["***", "***", 99174, True, None]}
        _, _, message = await shell.error('echo "no $TOKEN" >&2; exit 1', secrets=secrets)
        assert message.endswith("\nno ***")

    async def test_the_lines_of_a_long_one_are_masked_and_so_is_one_that_a_cut_goes_through(self, new_shell) -> None:
        key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----"
        shell = new_shell({"KEY": key, "LONG": "s" * 3000})
        await shell.run('echo "$KEY"', secrets={"KEY": "key"})
        assert shell.printed == ["***"] * 3
        shell.lines.clear()
        await shell.run("printf '%065000d%s' 0 \"$LONG\" >&2", secrets={"LONG": "long"})
        assert "s" * 10 not in shell.printed[0].replace("bytes", "")

    async def test_a_secret_with_a_zero_byte_is_refused_without_quoting_it(self, new_shell) -> None:
        shell = new_shell({"BAD": "a\0b"})
        conclusion, type, message = await shell.error("true", secrets={"BAD": "bad"})
        assert (conclusion, type) == ("fail", "UnusableValue")
        assert "a\0b" not in message
        assert "'BAD'" in message


class TestLimits:
    async def test_processor_time(self, new_shell) -> None:
        shell = new_shell(cpu=1)
        conclusion, type, _ = await shell.error(command=("python3", "-c", "while True: pass"))
        assert (conclusion, type) == ("error", "CPULimit")

    async def test_memory(self, new_shell) -> None:
        shell = new_shell(memory=512 << 20)
        assert (await shell.error(command=("python3", "-c", "bytearray(1 << 30)")))[1] == "ExitCode"
        assert "MemoryError" in shell.printed[-1]

    async def test_output(self, new_shell) -> None:
        shell = new_shell(output=1 << 20)
        conclusion, type, message = await shell.error("yes")
        assert (conclusion, type) == ("fail", "OutputLimit")
        assert "1,048,576 bytes" in message

    def test_programs_at_once_follow_the_processors(self) -> None:
        assert Limits().programs is None
