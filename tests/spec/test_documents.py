"""Reading documents that are right, and what is common to all ways of reading them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagengine.errors import Problem, SpecError
from dagengine.spec import document
from dagengine.spec.builder import Workflow
from dagengine.spec.model import Document, LuaExecutor

FOLDER = Path(__file__).parent / "valid"
VALID = sorted(FOLDER.iterdir())
GOLDEN = "sha256:4608d8e8aad3ef1bbb35337069dcf696e40052cfeb3b52cfe2df9d6116e16708"


def _pipeline() -> Document:
    return document.read((FOLDER / "pipeline.yaml").read_text())


def _minimal(**node: Any) -> dict[str, Any]:
    return {
        "metadata": {"id": "w", "version": "1.0.0"},
        "spec": {"nodes": [{"id": "a", "executor": {"type": "lua", "code": "return 1"}, **node}]},
    }


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.name)
def test_a_right_document_is_read_from_text_and_from_bytes(path: Path) -> None:
    assert document.read(path.read_text()) == document.read(path.read_bytes())


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.name)
def test_what_is_written_is_read_again(path: Path) -> None:
    first = document.read(path.read_text())
    dumped = first.to_dict()
    for again in (
        document.read(yaml.safe_dump(dumped)),
        document.read(json.dumps(dumped)),
        document.read(json.dumps(dumped, indent=2)),
        document.from_dict(dumped),
        document.from_canonical(first.canonical),
    ):
        assert again == first
        assert again.canonical == first.canonical


def test_yaml_json_and_the_builder_give_one_digest() -> None:
    workflow = Workflow(
        "data-pipeline",
        "1.0.0",
        name="Data pipeline",
        inputs={"date": {"type": "string", "format": "date"}, "limit": {"type": "integer", "default": 100}},
        outputs={"total": "{{ nodes.load.total }}"},
        http="/trigger/data-pipeline",
        cron={"schedule": "0 */5 * * * *", "inputs": {"date": "2024-02-29"}},
    )
    extract = workflow.lua("extract", "return {rows = {1, 2, 3}}")
    transform = workflow.lua(
        "transform",
        "return {value = item * 2}",
        foreach="nodes.extract.rows",
        timeout="5m",
        retry={"fail": {"max_attempts": 3}, "error": {"max_attempts": 5}},
    )
    load = workflow.python(
        "load", lambda rows: len(rows), args={"rows": "{{ nodes.transform }}"}, when="inputs.limit > 0"
    )
    extract >> transform >> load

    digests = {
        workflow.build().digest,
        _pipeline().digest,
        document.read((FOLDER / "pipeline.json").read_bytes()).digest,
    }
    assert digests == {GOLDEN}


def test_the_digest_changes_with_the_meaning_only() -> None:
    one = document.from_dict(_minimal())
    same = document.from_dict(_minimal(dependencies=[], retry={"fail": {"max_attempts": 1}}, run_if="all_succeeded"))
    other = document.from_dict(_minimal(timeout="1s"))
    assert one.digest == same.digest
    assert one.digest != other.digest


def test_durations_have_one_form() -> None:
    assert document.from_dict(_minimal(timeout=90)).digest == document.from_dict(_minimal(timeout="1m30s")).digest


def test_words_that_yaml_1_1_would_change_stay_texts() -> None:
    read = document.read((FOLDER / "yaml-of-people.yaml").read_text())
    assert read.metadata.labels == {
        "country": "no",
        "answer": "yes",
        "switch": "on",
        "day": "2024-01-01",
        "time": "12:30:00",
    }
    assert read.spec.inputs["octal"]["default"] == 0o17
    assert read.spec.inputs["hex"]["default"] == 0xFF


def test_the_older_spelling_of_limits_is_todays() -> None:
    first, second = document.read((FOLDER / "older-spelling.yaml").read_text()).spec.nodes
    assert first.timeout == 300_000_000
    assert (first.retry.fail.max_attempts, first.retry.error.max_attempts) == (4, 4)
    assert (second.retry.fail.max_attempts, second.retry.error.max_attempts) == (2, 3)
    today = document.from_dict(
        _minimal(timeout="5m", retry={"fail": {"max_attempts": 4}, "error": {"max_attempts": 4}})
    )
    assert document.from_dict(_minimal(metadata={"timeout": 300, "retries": 3})).digest == today.digest


def test_from_dict_copies_what_it_is_given() -> None:
    value = _minimal()
    value["spec"]["outputs"] = {"list": [1]}
    read = document.from_dict(value)
    value["spec"]["outputs"]["list"].append(2)
    assert read.spec.outputs == {"list": [1]}


def test_from_dict_finds_problems_without_lines() -> None:
    with pytest.raises(SpecError) as caught:
        document.from_dict(_minimal(timeout="soon", dependencies=["b"]), source="this")
    assert str(caught.value).startswith("this has 2 problems\n")
    assert {(problem.line, problem.path) for problem in caught.value.problems} == {
        (0, "spec.nodes[0].timeout"),
        (0, "spec.nodes[0].dependencies[0]"),
    }


def test_from_dict_refuses_what_is_not_json() -> None:
    itself: list[Any] = []
    itself.append(itself)
    value = _minimal()
    value["spec"]["outputs"] = {"set": {1}, "nan": float("nan"), "big": 2**63, "half": "\ud800", 5: 1, "self": itself}
    with pytest.raises(SpecError) as caught:
        document.from_dict(value)
    assert {(problem.path.split("[")[0], problem.message) for problem in caught.value.problems} == {
        ("spec.outputs.set", "expected a JSON value, got a Python set"),
        ("spec.outputs.nan", "nan is not a number that JSON can hold"),
        ("spec.outputs.big", "the integer does not fit into 64 bits"),
        ("spec.outputs.half", "the text holds half of a surrogate pair, which is not Unicode"),
        ("spec.outputs", "keys must be texts, got a number (5)"),
        ("spec.outputs.self", "nested deeper than 64 levels"),
    }


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_from_dict_wants_a_mapping(value: object) -> None:
    with pytest.raises(SpecError, match="expected a workflow document"):
        document.from_dict(value)


def test_bytes_that_are_not_a_canonical_document_are_refused() -> None:
    with pytest.raises(SpecError, match="canonical"):
        document.from_canonical(b'{"kind": "Workflow"}')


def test_a_byte_order_mark_is_no_problem() -> None:
    assert document.read(b"\xef\xbb\xbf" + json.dumps(_minimal()).encode()).id == "w"


def test_text_that_is_not_utf_8_is_refused_with_its_line() -> None:
    with pytest.raises(SpecError, match="line 2: the document is not UTF-8 text"):
        document.read(b"metadata:\n  id: \xff\xfe\n")


def test_a_text_that_is_too_long_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(SpecError, match=r"has 5,000,000 bytes; at most 4,194,304 are accepted"):
        document.read(b"#" * 5_000_000)
    with pytest.raises(SpecError, match=r"has 4,200,002 bytes"):
        document.read("# " + "ä" * 2_100_000)


@pytest.mark.parametrize("opening", ["[", "{", "- ", "? ", "[{", "{a: ", '{"a":', "a:\n "])
def test_hostile_nesting_is_refused_quickly(opening: str) -> None:
    with pytest.raises(SpecError):
        document.read(opening * (1_000_000 // len(opening)))


class TestChecksOfOtherLayers:
    @staticmethod
    def _no_todo(read: Document) -> Iterable[Problem]:
        for index, node in enumerate(read.spec.nodes):
            if "todo" in getattr(node.executor, "code", ""):
                yield Problem(path=f"spec.nodes[{index}].executor.code", message="unfinished")

    TEXT = """\
metadata: {id: w, version: 1.0.0}
spec:
  nodes:
    - id: a
      executor: {type: lua, code: todo}
    - id: b
      timeout: soon
      executor:
        type: lua
        code: todo
    - id: c
      executor: {type: lua, code: return 1}
    - id: d
      executor:
        code: todo
        type: lua
"""

    def test_their_problems_get_lines_and_join_the_others(self) -> None:
        with pytest.raises(SpecError) as caught:
            document.read(self.TEXT, checks=[self._no_todo])
        assert [(problem.line, problem.path) for problem in caught.value.problems] == [
            (5, "spec.nodes[0].executor.code"),
            (7, "spec.nodes[1].timeout"),
            (10, "spec.nodes[1].executor.code"),
            (15, "spec.nodes[3].executor.code"),
        ]

    def test_they_see_the_whole_document_when_it_is_right(self) -> None:
        with pytest.raises(SpecError) as caught:
            document.read(self.TEXT.replace("soon", "1s"), checks=[self._no_todo])
        assert [problem.line for problem in caught.value.problems] == [5, 10, 15]

    def test_they_are_run_although_the_metadata_are_wrong(self) -> None:
        with pytest.raises(SpecError) as caught:
            document.read(
                self.TEXT.replace("id: w, ", "").replace("spec:", "spec:\n  outputs: 1"), checks=[self._no_todo]
            )
        assert "unfinished" in str(caught.value)

    def test_they_may_give_lines_of_their_own(self) -> None:
        def check(_: Document) -> Iterable[Problem]:
            yield Problem(line=3, column=7, path="spec.nodes", message="says who?")

        with pytest.raises(SpecError) as caught:
            document.read(self.TEXT.replace("soon", "1s"), checks=[check])
        assert caught.value.problems == (Problem(line=3, column=7, path="spec.nodes", message="says who?"),)


def test_ten_thousand_nodes_in_a_row_are_read_without_recursion() -> None:
    nodes = [
        {
            "id": f"n{index}",
            "dependencies": [f"n{index - 1}"] if index else [],
            "executor": {"type": "lua", "code": f"return nodes.n{index // 2}" if index else "return 1"},
        }
        for index in range(10_000)
    ]
    value = {"metadata": {"id": "long", "version": "1.0.0"}, "spec": {"nodes": nodes}}
    assert len(document.from_dict(value).spec.nodes) == 10_000
    nodes[0]["dependencies"] = ["n9999"]
    with pytest.raises(SpecError, match=r"n0 → n1 → .* → \(9989 more\) → n9999 → n0"):
        document.from_dict(value)


def test_checks_see_what_is_right_of_a_node_that_has_something_wrong() -> None:
    seen: list[str] = []

    def check(checked: Document) -> list[Problem]:
        seen.extend(node.executor.code for node in checked.spec.nodes if isinstance(node.executor, LuaExecutor))
        return [Problem(path="spec.nodes[0].executor.code", message="not valid Lua")]

    node = {"id": "a", "colour": "red", "executor": {"type": "lua", "code": "retrun 1"}}
    with pytest.raises(SpecError) as raised:
        document.from_dict(
            {
                "apiVersion": "workflows/v1",
                "kind": "Workflow",
                "metadata": {"id": "w", "version": "1.0.0"},
                "spec": {"nodes": [node]},
            },
            checks=[check],
        )
    assert seen == ["retrun 1"]
    assert {problem.path for problem in raised.value.problems} == {
        "spec.nodes[0].colour",
        "spec.nodes[0].executor.code",
    }


def test_when_cannot_read_the_item_that_foreach_makes_after_it() -> None:
    with pytest.raises(SpecError, match="`item` is not there yet: `when` is decided once for the node"):
        document.from_dict(
            {
                "apiVersion": "workflows/v1",
                "kind": "Workflow",
                "metadata": {"id": "w", "version": "1.0.0"},
                "spec": {
                    "nodes": [
                        {
                            "id": "a",
                            "foreach": "{1, 2}",
                            "when": "item > 1",
                            "executor": {"type": "lua", "code": "return item"},
                        }
                    ]
                },
            }
        )


def test_no_more_than_a_thousand_problems_are_carried_and_the_rest_counted() -> None:
    nodes = [{"id": f"n{number}", "dependencies": [f"x{number}"]} for number in range(700)]
    with pytest.raises(SpecError, match="has 1,400 problems") as caught:
        document.from_dict({"metadata": {"id": "w", "version": "1.0.0"}, "spec": {"nodes": nodes}})
    assert (len(caught.value.problems), caught.value.omitted) == (1_000, 400)
    assert str(caught.value).splitlines()[-1] == "  … and 400 more"


@pytest.mark.parametrize("name", ["workflow.yaml", "/srv/flows/w.json", "./w.yml", "flows/nightly"])
def test_the_name_of_a_file_in_place_of_its_text_is_noticed(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        document.read(name)
    hint = f"got text; to read a file, give its text, or in Python pathlib.Path({name!r})"
    assert caught.value.problems[0].message.endswith(hint)


@pytest.mark.parametrize("text", ["hello", "two words.yaml", "one\ntwo/three"])
def test_other_texts_are_not_taken_for_names_of_files(text: str) -> None:
    with pytest.raises(SpecError, match=r"got text$"):
        document.read(text)


def _ends_too_early(found: Document) -> list[Problem]:
    """What a check of the Lua code says of code that was cut."""
    message = "not valid Lua: unexpected symbol near <eof>"
    return [Problem(path="spec.nodes[0].when", message=message)]


@pytest.mark.parametrize(
    ("when", "hinted"),
    [
        ("inputs.x and #inputs.x > 0 and #inputs.y", True),
        ("inputs.x +  # the other one", True),
        ("inputs.x and", False),
        ("'inputs.x and' # half", False),
    ],
)
def test_code_that_a_comment_of_yaml_cuts_is_noticed(when: str, hinted: bool) -> None:
    text = f"""\
metadata: {{id: w, version: 1.0.0}}
spec:
  nodes:
    - id: a
      when: {when}
      executor: {{type: lua, code: return 1}}
"""
    with pytest.raises(SpecError) as caught:
        document.read(text, checks=[_ends_too_early])
    (problem,) = caught.value.problems
    assert problem.message.endswith("near <eof>") is not hinted
    assert ("; ' #' begins a comment in YAML: put the code in quotes, or write it" in problem.message) is hinted


@pytest.mark.parametrize("code", ["return {a = 1}", "return {1, 2}", "return t[1]"])
def test_code_with_brackets_inside_of_braces_is_noticed(code: str) -> None:
    with pytest.raises(SpecError, match=r"in quotes, or write them as a block with \|"):
        document.read(f"spec: {{nodes: [{{id: a, executor: {{type: lua, code: {code}}}}}]}}\n")


def test_any_engine_is_the_same_as_saying_nothing_about_it() -> None:
    said = _minimal()
    said["spec"]["engine"] = {"labels": {}, "exclusive": False}
    assert document.from_dict(said).digest == document.from_dict(_minimal()).digest


def test_keeping_everything_is_not_the_same_as_saying_nothing_about_it() -> None:
    said = _minimal()
    said["spec"]["retention"] = {"executions": {}}
    kept, silent = document.from_dict(said), document.from_dict(_minimal())
    assert kept.to_dict()["spec"]["retention"] == {"executions": {}}
    assert "retention" not in silent.to_dict()["spec"]
    assert document.from_canonical(kept.canonical).spec.retention == kept.spec.retention != silent.spec.retention
