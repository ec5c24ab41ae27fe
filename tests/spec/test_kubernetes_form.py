"""The Kubernetes form of documents: read like the plain one, and written so that it means the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagengine.errors import Problem, SpecError
from dagengine.spec import document, manifest
from dagengine.spec.model import Document

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VALID = [*sorted((HERE / "valid").iterdir()), *sorted(ROOT.glob("examples/*/[!e]*.yaml"))]
NIGHT_RUN = (HERE / "kubernetes" / "night-run.yaml").read_text()
PLAIN = """\
metadata:
  id: Night_Run
  name: Night run
  version: 1.2.0
  description: Every night.
  labels: {team: data, app.kubernetes.io/part-of: nights}
  annotations: {example.com/owner: ada}
spec:
  nodes:
    - {id: a, timeout: 0.5, executor: {type: lua, code: return 1}}
"""
SPEC = {"nodes": [{"id": "a", "executor": {"type": "lua", "code": "return 1"}}]}
WORDS = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,20}[A-Za-z0-9])?", fullmatch=True)
DOMAINS = st.sampled_from(["", "example.com/", "a.b.example.org/"])
KEYS = st.builds(lambda domain, word: domain + word, DOMAINS, WORDS)
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=30)


def _made(metadata: dict[str, Any]) -> Document:
    return document.from_dict({"metadata": metadata, "spec": SPEC})


def test_an_object_as_the_api_has_it_is_the_document_that_was_meant() -> None:
    assert document.read(NIGHT_RUN).to_dict() == document.read(PLAIN).to_dict()


def test_one_file_serves_dagctl_and_kubectl_with_only_its_api_version_changed() -> None:
    ours = NIGHT_RUN.replace("apiVersion: workflows.dagengine.dev/v1", "apiVersion: workflows/v1")
    assert ours != NIGHT_RUN
    assert document.read(ours).digest == document.read(NIGHT_RUN).digest == document.read(PLAIN).digest


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.name)
def test_what_is_written_as_an_object_is_read_as_the_same_document(path: Path) -> None:
    first = document.read(path.read_text())
    written = manifest.written(first)
    for again in (document.from_dict(written), document.read(json.dumps(written))):
        assert again.canonical == first.canonical
    assert manifest.written(document.from_dict(written)) == written


@given(
    id=st.from_regex(r"[a-zA-Z0-9_-]{1,40}", fullmatch=True),
    labels=st.dictionaries(KEYS, WORDS | st.just(""), max_size=3),
    annotations=st.dictionaries(KEYS, TEXTS, max_size=3),
    name=TEXTS,
    description=TEXTS,
)
def test_whatever_fits_is_read_as_the_same_document(
    id: str, labels: dict[str, str], annotations: dict[str, str], name: str, description: str
) -> None:
    first = _made(
        {
            "id": id,
            "version": "1.0.0-rc.1+5",
            "labels": labels,
            "annotations": annotations,
            "name": name,
            "description": description,
        }
    )
    unfit = manifest.unfit(first)
    assert bool(unfit) == (manifest.name_for(id) == "")
    if not unfit:
        assert document.from_dict(manifest.written(first)).canonical == first.canonical
    assert document.from_dict(manifest.written(first, name="another-name.of-it")).canonical == first.canonical


@pytest.mark.parametrize(
    ("id", "name", "kept"),
    [
        ("sales", "sales", None),
        ("2-days", "2-days", None),
        ("Night_Run", "night-run", "Night_Run"),
        ("_private", "private", "_private"),
        ("a--", "a", "a--"),
    ],
)
def test_the_name_of_an_object_is_made_of_the_id_which_is_kept_where_that_is_another(
    id: str, name: str, kept: str | None
) -> None:
    metadata = manifest.written(_made({"id": id, "version": "1.0.0"}))["metadata"]
    assert metadata["name"] == name
    assert metadata["annotations"].get(manifest.ID) == kept


def test_everything_that_cannot_be_an_object_is_said() -> None:
    made = _made(
        {
            "id": "___",
            "version": "1.0.0",
            "labels": {"a b": "x", "team": "data & more", "example.com/": "x", "Example.com/x": "x", "ok": ""},
            "annotations": {"kubectl.kubernetes.io/x": "1", "k8s.io/y": "2", "x" * 64: "3", "size": "x" * 262_144},
        }
    )
    assert [".".join(map(str, path)) for path, _ in manifest.unfit(made)] == [
        "metadata.id",
        "metadata.labels.a b",
        "metadata.labels.team",
        "metadata.labels.example.com/",
        "metadata.labels.Example.com/x",
        "metadata.annotations.kubectl.kubernetes.io/x",
        "metadata.annotations.k8s.io/y",
        f"metadata.annotations.{'x' * 64}",
        "metadata.annotations",
    ]
    assert [path for path, _ in manifest.unfit(_made({"id": "a", "version": "1.0.0"}), name="a_b")] == [
        ("metadata", "id")
    ]


def test_what_another_layer_finds_is_told_where_the_user_wrote_it() -> None:
    def check(_: Document) -> list[Problem]:
        return [
            Problem(path=path, message="no")
            for path in ("metadata.id", "metadata.version", "metadata.name", "metadata.labels.team", "spec.nodes[0].id")
        ]

    with pytest.raises(SpecError) as caught:
        document.read(NIGHT_RUN, checks=(check,))
    assert [(problem.line, problem.path) for problem in caught.value.problems] == [
        (10, "metadata.labels.team"),
        (12, f'metadata.annotations["{manifest.ID}"]'),
        (13, f'metadata.annotations["{manifest.VERSION}"]'),
        (14, 'metadata.annotations["workflows.dagengine.dev/name"]'),
        (20, "spec.nodes[0].id"),
    ]
