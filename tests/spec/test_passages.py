"""Every place of a document that holds Lua is listed."""

from __future__ import annotations

from pathlib import Path

from dagengine.spec import document
from dagengine.spec.outline import outline
from dagengine.spec.passages import passages
from dagengine.spec.path import format_path

EVERYTHING = Path(__file__).parent / "valid" / "everything.yaml"


def test_all_of_them_are_found_once_with_their_role() -> None:
    found = list(passages(outline(document.read(EVERYTHING.read_text()).to_dict())))
    paths = [format_path(passage.path) for passage in found]
    assert len(set(paths)) == len(paths)
    assert {(passage.form, passage.role) for passage in found} == {
        ("expression", "foreach"),
        ("expression", "when"),
        ("expression", "select"),
        ("chunk", "code"),
        ("template", "args"),
        ("template", "cache"),
        ("template", "outputs"),
        ("template", "concurrency"),
    }
    assert {
        "spec.outputs.total",
        "spec.concurrency.key",
        "spec.nodes[0].cache.key",
        "spec.nodes[0].executor.url",
        "spec.nodes[0].executor.query.tag[0]",
        "spec.nodes[0].executor.headers.X-Tenant",
        "spec.nodes[0].executor.json.days",
        "spec.nodes[0].executor.select",
        "spec.nodes[1].executor.form.a",
        "spec.nodes[2].executor.body",
        "spec.nodes[3].foreach",
        "spec.nodes[3].when",
        "spec.nodes[3].executor.code",
        "spec.nodes[4].executor.env.MODE",
        "spec.nodes[4].executor.stdin",
        "spec.nodes[6].executor.args.x",
        "spec.nodes[10].executor.until",
        "spec.nodes[11].executor.signal.name",
        "spec.on_exit[0].when",
        "spec.on_exit[0].executor.args.how",
        "spec.on_exit[1].executor.code",
    } <= set(paths)
    assert not [path for path in paths if "command" in path or "script" in path]
