"""Versions of workflows: immutable, in order, and removed only when nothing runs them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator import errors
from orchestrator.store.base import Batch, NewExecution, Store, Terminal, VersionRecord
from orchestrator.store.base import Version as Kept

Version = Callable[..., VersionRecord]
New = Callable[..., NewExecution]


async def test_a_version_is_kept_as_it_was_given(store: Store, version: Version) -> None:
    record = version()
    assert await store.add_version(record) is True
    assert await store.version("w", "1.0.0") == record
    assert await store.document(record.digest) == record.document
    assert await store.versions() == [Kept.of(record)]


async def test_the_same_content_again_changes_nothing(store: Store, version: Version) -> None:
    await store.add_version(version(registered_at=1))
    assert await store.add_version(version(registered_at=2)) is False
    assert [record.registered_at for record in await store.versions()] == [1]


async def test_another_content_under_the_same_version_is_refused(store: Store, version: Version) -> None:
    await store.add_version(version())
    with pytest.raises(errors.VersionConflict, match=r"w@1\.0\.0 is registered already .* higher version"):
        await store.add_version(version(digest="sha256:other"))
    assert (await store.versions())[0].digest == "sha256:w-1.0.0"
    assert await store.document("sha256:other") is None


async def test_versions_come_in_the_order_of_registration(store: Store, version: Version) -> None:
    for workflow, number in (("w", "2.0.0"), ("v", "1.0.0"), ("w", "1.0.0")):
        await store.add_version(version(workflow, number))
    assert [(r.workflow, r.version) for r in await store.versions()] == [
        ("w", "2.0.0"),
        ("v", "1.0.0"),
        ("w", "1.0.0"),
    ]
    assert [r.version for r in await store.versions("w")] == ["2.0.0", "1.0.0"]
    assert await store.versions("unknown") == []
    assert await store.version("w", "3.0.0") is None


async def test_removing_says_how_many_went(store: Store, version: Version) -> None:
    for number in ("1.0.0", "1.1.0", "2.0.0"):
        await store.add_version(version("w", number))
    assert await store.remove_versions("w", "1.1.0", force=False) == 1
    assert await store.remove_versions("w", "1.1.0", force=False) == 0
    assert await store.remove_versions("w", None, force=False) == 2
    assert await store.versions() == []
    assert await store.remove_versions("w", None, force=True) == 0


async def test_a_version_with_executions_under_way_is_removed_only_by_force(
    store: Store, version: Version, new_execution: New
) -> None:
    await store.add_version(version("w", "1.0.0"))
    await store.add_version(version("w", "2.0.0"))
    await store.create_execution(new_execution())
    with pytest.raises(errors.InUse, match=r"w@1\.0\.0 has 1 execution that has not ended"):
        await store.remove_versions("w", "1.0.0", force=False)
    with pytest.raises(errors.InUse, match="w has 1 execution"):
        await store.remove_versions("w", None, force=False)
    assert await store.remove_versions("w", "2.0.0", force=False) == 1
    assert await store.remove_versions("w", "1.0.0", force=True) == 1


async def test_executions_outlive_their_version(dispatched: Store, version: Version) -> None:
    await dispatched.remove_versions("w", None, force=True)
    assert await dispatched.document("sha256:w-1.0.0") == version().document
    batch = Batch(execution="e1", epoch=1, first_seq=1, facts=[b'{"at":1}'], terminal=Terminal(status="failed", at=2))
    (answer,) = await dispatched.append([batch])
    assert answer.outcome == "committed"
    record = await dispatched.execution("e1")
    assert record is not None
    assert record.status == "failed"
    assert await dispatched.add_version(version()) is True
    assert await dispatched.remove_versions("w", None, force=False) == 1
