"""What many nodes have in common is in memory once, and the document means the same."""

from __future__ import annotations

from dagengine.spec.model import Document


def document() -> Document:
    wait = {"type": "wait", "signal": {"name": "go"}}
    nodes = [
        {"id": "first", "executor": {"type": "lua", "code": "return 1"}},
        *({"id": f"n{number}", "dependencies": ["".join(["fir", "st"])], "executor": wait} for number in range(3)),
    ]
    return Document.model_validate({"metadata": {"id": "w", "version": "1.0.0"}, "spec": {"nodes": nodes}})


def test_a_dependency_is_the_very_text_that_names_the_node() -> None:
    first, *others = document().spec.nodes
    assert all(node.dependencies[0] is first.id for node in others)


def test_nodes_with_the_same_fields_share_the_set_of_their_names() -> None:
    first, one, other, _ = document().spec.nodes
    assert one.model_fields_set is other.model_fields_set
    assert one.executor.model_fields_set is other.executor.model_fields_set
    assert one.model_fields_set == {"id", "dependencies", "executor"}
    assert first.model_fields_set == {"id", "executor"}


def test_a_copy_has_a_set_of_its_own() -> None:
    _, one, other, _ = document().spec.nodes
    named = one.model_copy(update={"name": "One"})
    assert "name" in named.model_fields_set
    assert "name" not in other.model_fields_set


def test_it_is_written_as_it_was_read() -> None:
    written = document().to_dict()
    assert Document.model_validate(written).digest == document().digest
    assert written["spec"]["nodes"][1]["dependencies"] == ["first"]
