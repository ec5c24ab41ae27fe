"""The registry: what may be registered, and which version a reference names."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest

from dagengine.clock import SystemClock
from dagengine.errors import Problem, SpecError
from dagengine.spec.model import Document
from orchestrator import errors
from orchestrator.registry.registry import Registry
from orchestrator.store.base import NewExecution
from orchestrator.store.sqlite import SQLiteStore

Values = Callable[..., dict[str, Any]]


class CountingClock(SystemClock):
    """1, 2, 3, …"""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count(1)

    def now(self) -> int:
        return next(self._numbers)


@pytest.fixture
async def store() -> AsyncIterator[SQLiteStore]:
    opened = SQLiteStore("sqlite://")
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def registry(store: SQLiteStore) -> Registry:
    return Registry(store, clock=CountingClock())


@pytest.fixture
def values() -> Values:
    """`values("w", "1.0.0", …)`: a document of one node as plain values."""

    def make(workflow: str = "w", version: str = "1.0.0", *, code: str = "return 1", **labels: str) -> dict[str, Any]:
        metadata: dict[str, Any] = {"id": workflow, "version": version, "labels": labels}
        node = {"id": "a", "executor": {"type": "lua", "code": code}}
        return {"apiVersion": "workflows/v1", "kind": "Workflow", "metadata": metadata, "spec": {"nodes": [node]}}

    return make


async def test_a_document_other_than_the_expected_one_is_refused(registry: Registry, values: Values) -> None:
    for expected, message in (
        ("v", "expected the workflow 'v', but the document's metadata.id is 'w'"),
        ("w@2.0.0", "expected version '2.0.0', but the document's metadata.version is '1.0.0'"),
    ):
        with pytest.raises(errors.RequestError, match=message):
            await registry.register(values("w", "1.0.0"), expected=expected)
    assert await registry.records() == []
    for expected in ("w", "w@1.0.0"):
        await registry.register(values("w", "1.0.0"), expected=expected)


TEXT = """
apiVersion: workflows/v1
kind: Workflow
metadata: {id: w, version: 1.0.0, name: A workflow, description: What it does, labels: {team: data}}
spec:
  nodes:
    - {id: a, executor: {type: lua, code: return 1}}
"""


async def test_a_version_is_registered_once(registry: Registry, values: Values) -> None:
    entry, created = await registry.register(values())
    assert created
    again, created = await registry.register(values())
    assert not created
    assert again == entry
    assert entry.record.registered_at == 1
    assert await registry.versions("w") == ["1.0.0"]


async def test_every_form_of_a_document_is_the_same_version(registry: Registry) -> None:
    entry, _ = await registry.register(TEXT)
    assert (entry.record.workflow, entry.record.version) == ("w", "1.0.0")
    assert (entry.record.name, entry.record.description, entry.record.labels) == (
        "A workflow",
        "What it does",
        {"team": "data"},
    )
    assert await registry.canonical(entry.record.digest) == entry.document.canonical
    for form in (TEXT.encode(), entry.document, entry.document.to_dict()):
        assert await registry.register(form) == (entry, False)


async def test_another_content_is_refused(registry: Registry, values: Values) -> None:
    await registry.register(values())
    with pytest.raises(errors.VersionConflict, match="Versions are immutable"):
        await registry.register(values(code="return 2"))
    assert (await registry.resolve("w")).document.spec.nodes[0].executor.code == "return 1"  # type: ignore[union-attr] # it is Lua


async def test_a_wrong_document_is_refused_with_every_problem_and_not_registered(registry: Registry) -> None:
    wrong = TEXT.replace("version: 1.0.0", "version: one").replace("id: a,", "id: a, dependencies: [b],")
    with pytest.raises(SpecError) as caught:
        await registry.register(wrong, source="w.yaml")
    assert "w.yaml has 2 problems" in str(caught.value)
    assert [problem.line for problem in caught.value.problems] == [4, 7]
    assert await registry.list() == []


async def test_checks_of_other_layers_are_asked_about_every_form(store: SQLiteStore) -> None:
    def check(document: Document) -> Iterable[Problem]:
        yield Problem(path="spec.nodes[0].executor.code", message=f"no {document.id}")

    registry = Registry(store, checks=[check], clock=CountingClock())
    plain, _ = await Registry(store, clock=CountingClock()).register(TEXT)
    for form in (TEXT, plain.document, plain.document.to_dict()):
        with pytest.raises(SpecError, match=r"spec\.nodes\[0\]\.executor\.code: no w"):
            await registry.register(form)


async def test_checks_never_overlap_a_registration(store: SQLiteStore, values: Values) -> None:
    """A check that looks at what is registered (do two workflows claim one path?) cannot be overtaken."""
    registered: list[str] = []

    def only_one(document: Document) -> Iterable[Problem]:
        if registered:
            yield Problem(path="metadata.id", message=f"{registered[0]} is there")
        registered.append(document.id)

    registry = Registry(store, checks=[only_one], clock=CountingClock())
    answers = await asyncio.gather(*(registry.register(values(f"w{n}")) for n in range(5)), return_exceptions=True)
    assert [isinstance(answer, SpecError) for answer in answers] == [False, True, True, True, True]
    assert [record.workflow for record in await registry.list()] == ["w0"]


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("w", "2.0.0"),
        ("w@latest", "2.0.0"),
        ("w@1.2.0", "1.2.0"),
        ("w@^1", "1.10.0"),
        ("w@~1.2", "1.2.1"),
        ("w@1.x", "1.10.0"),
        ("w@<1.2", "1.0.0"),
        ("w@3.0.0-rc.1", "3.0.0-rc.1"),
        ("w@^3.0.0-rc.0", "3.0.0-rc.1"),
        ("w@*", "2.0.0"),
        ("young", "0.1.0-beta.2"),
    ],
)
async def test_which_version_a_reference_names(
    registry: Registry, values: Values, reference: str, version: str
) -> None:
    for number in ("1.2.0", "2.0.0", "1.0.0", "1.10.0", "3.0.0-rc.1", "1.2.1"):
        await registry.register(values("w", number))
    for number in ("0.1.0-beta.2", "0.1.0-beta.1"):
        await registry.register(values("young", number))
    entry = await registry.resolve(reference)
    assert entry.record.version == entry.document.version == version
    assert (await registry.resolve(reference)).document is entry.document


async def test_a_reference_to_nothing_says_what_there_is(registry: Registry, values: Values) -> None:
    with pytest.raises(errors.NotFound, match=r"^there is no workflow 'w': none is registered yet\.$"):
        await registry.resolve("w")
    for number in ("1.0.0", "1.10.0", "1.9.0"):
        await registry.register(values("data-pipeline", number))
    await registry.register(values("w"))
    with pytest.raises(errors.NotFound, match=r"^there is no workflow 'data_pipelin'; did you mean 'data-pipeline'\?$"):
        await registry.resolve("data_pipelin")
    with pytest.raises(errors.NotFound, match=r"^there is no workflow 'xyz': there is data-pipeline, w\.$"):
        await registry.resolve("xyz")
    with pytest.raises(
        errors.NotFound, match=r"^workflow 'data-pipeline' has no version '\^2': there is 1\.10\.0, 1\.9\.0, 1\.0\.0\.$"
    ):
        await registry.resolve("data-pipeline@^2")
    with pytest.raises(errors.RequestError, match=r"^'no such id' is not a workflow: expected an id of letters"):
        await registry.resolve("no such id")
    with pytest.raises(errors.RequestError, match=r"^'\^\^1' does not name versions: expected a version such as"):
        await registry.resolve("data-pipeline@^^1")


async def test_what_there_is_is_named_only_up_to_a_point(registry: Registry, values: Values) -> None:
    for number in range(13):
        await registry.register(values(f"workflow-{number:02}"))
    with pytest.raises(errors.NotFound, match=r"workflow-00, .*, workflow-09 and 3 more\.$"):
        await registry.resolve("q")


async def test_a_new_version_is_found_at_once(registry: Registry, values: Values) -> None:
    await registry.register(values("w", "1.0.0"))
    assert (await registry.resolve("w")).record.version == "1.0.0"
    await registry.register(values("w", "1.1.0"))
    assert (await registry.resolve("w")).record.version == "1.1.0"
    await registry.remove("w", version="1.1.0")
    assert (await registry.resolve("w")).record.version == "1.0.0"


async def test_listing_shows_the_latest_version_of_each_workflow_that_fits(registry: Registry, values: Values) -> None:
    await registry.register(values("b", "1.0.0", team="data"))
    await registry.register(values("a", "1.0.0", team="ops"))
    await registry.register(values("b", "2.0.0", team="ops", tier="gold"))
    await registry.register(values("b", "3.0.0-rc.1", team="data"))

    async def listed(labels: str = "") -> list[tuple[str, str]]:
        return [(record.workflow, record.version) for record in await registry.list(labels)]

    assert await listed() == [("a", "1.0.0"), ("b", "2.0.0")]
    assert await listed("team=ops,!tier") == [("a", "1.0.0")]
    assert await listed("team=data") == []
    assert [record.version for record in await registry.records() if record.workflow == "b"] == [
        "1.0.0",
        "2.0.0",
        "3.0.0-rc.1",
    ]
    with pytest.raises(errors.RequestError, match="label selector"):
        await listed("team in")


async def test_removing(registry: Registry, values: Values) -> None:
    for number in ("1.0.0", "1.1.0", "2.0.0"):
        await registry.register(values("w", number))
    assert await registry.remove("w", version="1.1.0") == 1
    with pytest.raises(errors.NotFound, match=r"has no version '1\.1\.0': there is 2\.0\.0, 1\.0\.0"):
        await registry.remove("w", version="1.1.0")
    assert await registry.remove("w") == 2
    with pytest.raises(errors.NotFound, match="no workflow 'w'"):
        await registry.remove("w")
    assert await registry.versions("w") == []
    with pytest.raises(errors.NotFound):
        await registry.resolve("w@1.0.0")
    _, created = await registry.register(values("w", "1.0.0", code="return 'another'"))
    assert created


async def test_what_is_in_use_stays(registry: Registry, store: SQLiteStore, values: Values) -> None:
    entry, _ = await registry.register(values())
    new = NewExecution(
        id="e1", workflow="w", version="1.0.0", digest=entry.record.digest, inputs=b"{}", created_at=1, seed=1
    )
    await store.create_execution(new)
    with pytest.raises(errors.InUse):
        await registry.remove("w")
    assert await registry.resolve("w") == entry
    assert await registry.remove("w", force=True) == 1


async def test_another_registry_on_the_same_store_finds_everything(store: SQLiteStore, values: Values) -> None:
    one, other = (Registry(store, clock=CountingClock()) for _ in range(2))
    await one.register(values("w", "1.0.0"))
    assert (await other.resolve("w")).document == (await one.resolve("w")).document
    await one.register(values("w", "1.1.0"))
    assert (await other.resolve("w")).record.version == "1.0.0"
    await other.refresh()
    assert (await other.resolve("w")).record.version == "1.1.0"
    await one.register(values("v"))
    assert (await other.register(values("v")))[1] is False
    assert await other.versions("v") == ["1.0.0"]


async def test_a_caller_that_gives_up_leaves_store_and_memory_agreeing(store: SQLiteStore, values: Values) -> None:
    loop, under_way = asyncio.get_running_loop(), asyncio.Event()

    def check(_: Document) -> Iterable[Problem]:
        loop.call_soon_threadsafe(under_way.set)
        return []

    registry = Registry(store, checks=[check], clock=CountingClock())
    task = asyncio.ensure_future(registry.register(values("w")))
    await under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await registry.register(values("v"))  # after the one that is still under way
    assert [record.workflow for record in await store.versions()] == ["w", "v"]
    assert await registry.versions("w") == ["1.0.0"]


async def test_those_who_make_things_of_all_versions_are_told_before_the_next_is_checked(
    store: SQLiteStore, values: Values
) -> None:
    told: list[list[str]] = []
    checked: list[tuple[str, int]] = []

    def check(document: Document) -> Iterable[Problem]:
        checked.append((document.id, len(told[-1]) if told else 0))
        return []

    registry = Registry(
        store,
        checks=[check],
        clock=CountingClock(),
        changed=lambda versions: told.append([f"{version.workflow}@{version.version}" for version in versions]),
    )
    await asyncio.gather(*(registry.register(values(workflow)) for workflow in ("a", "b", "c")))
    assert checked == [("a", 0), ("b", 1), ("c", 2)]
    await registry.register(values("a"))
    assert len(told) == 3  # nothing new
    await registry.remove("b")
    assert told[-1] == ["a@1.0.0", "c@1.0.0"]
    await registry.refresh()
    assert told[-1] == ["a@1.0.0", "c@1.0.0"]


async def test_documents_that_are_large_together_are_read_again(store: SQLiteStore, values: Values) -> None:
    registry = Registry(store, clock=CountingClock())
    large = "return 1 --" + "x" * 300_000
    read: list[str] = []
    original = store.document

    async def document(digest: str) -> bytes | None:
        read.append(digest)
        return await original(digest)

    store.document = document  # type: ignore[method-assign]  # counts
    entries = [(await registry.register(values(f"w{number}", code=large)))[0] for number in range(120)]
    for entry in (entries[-1], entries[0]):
        again = await registry.resolve(f"{entry.record.workflow}@^1")
        assert (again.record, again.document) == (entry.record, entry.document)
    assert read == [entries[0].record.digest]


async def test_what_is_kept_of_a_version_has_its_triggers_but_not_its_document(
    registry: Registry, values: Values
) -> None:
    document = values()
    document["spec"]["triggers"] = {"http": {"path": "/hook"}}
    await registry.register(document)
    [version] = await registry.records()
    assert not hasattr(version, "document")
    assert b'"/hook"' in version.triggers


async def test_the_document_of_a_version_that_is_gone_is_still_there(registry: Registry, values: Values) -> None:
    entry, _ = await registry.register(values())
    await registry.remove("w")
    assert await registry.document(entry.record.digest) == entry.document
    assert await registry.document("sha256:nothing") is None
