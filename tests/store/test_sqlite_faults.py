"""What the file system may do to the store: no room, no permission, damage. A clear error, and nothing acknowledged is
lost, with one exception that SQLite makes: frames at the end of the log that do not match their checksum, it drops."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator import errors
from orchestrator.store.base import Batch, NewExecution, VersionRecord
from orchestrator.store.sqlite import SQLiteStore

WITHOUT_ROOM = """
import asyncio, resource, sys
from orchestrator import errors
from orchestrator.store.base import Batch
from orchestrator.store.sqlite import SQLiteStore

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def main():
    store = SQLiteStore(sys.argv[1])
    await store.open()
    last = (await store.execution("e1")).last_seq
    limit(200_000)
    batch = Batch(execution="e1", epoch=1, first_seq=last + 1, facts=[b"x" * 300_000])
    for _ in range(2):
        try:
            await store.append([batch])
        except errors.StoreError as error:
            print(error)
    print(await store.position())
    limit(resource.RLIM_INFINITY)
    (answer,) = await store.append([batch])
    print(answer.outcome, answer.last_seq)
    await store.close()

asyncio.run(main())
"""

OPEN = """
import asyncio, sys
from orchestrator import errors
from orchestrator.store.sqlite import SQLiteStore
try:
    asyncio.run(SQLiteStore(sys.argv[1]).open())
except errors.StoreError as error:
    print(error)
"""

ACKNOWLEDGED = """
import asyncio, sys
from orchestrator.store.base import Batch
from orchestrator.store.sqlite import SQLiteStore

async def main():
    store = SQLiteStore(sys.argv[1])
    await store.open()
    for seq in range(1, 6):
        (answer,) = await store.append([Batch(execution="e1", epoch=1, first_seq=seq, facts=[b"%d" % seq])])
    print(await store.incarnation(), await store.position(), flush=True)
    sys.stdin.read()

asyncio.run(main())
"""

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE = 1

_libc = ctypes.CDLL(None)


def _obey_modes() -> None:
    # Root may write what nobody may, unless it has given that up.
    if os.geteuid() == 0:
        _libc.prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE)


async def run(script: str, path: Path) -> str:
    """What a script with the store's URL prints, in a process that file modes apply to."""

    def perform() -> str:
        command = [sys.executable, "-c", script, f"sqlite:///{path}"]
        return subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=_obey_modes).stdout

    return await asyncio.to_thread(perform)


async def filled(path: Path, version: VersionRecord) -> SQLiteStore:
    """An open store with execution `e1`, dispatched under epoch 1."""
    store = SQLiteStore(f"sqlite:///{path}")
    await store.open()
    await store.add_version(version)
    new = NewExecution(id="e1", workflow="w", version="1.0.0", digest="d", inputs=b"{}", created_at=1, seed=1)
    await store.create_execution(new)
    await store.dispatch(["e1"], "engine-1")
    return store


@pytest.fixture
async def store(tmp_path: Path, version: VersionRecord) -> AsyncIterator[SQLiteStore]:
    opened = await filled(tmp_path / "s.db", version)
    yield opened
    await opened.close()


@pytest.fixture
async def path(tmp_path: Path, version: VersionRecord) -> Path:
    """A store that was closed, with `e1` in it."""
    await (await filled(tmp_path / "s.db", version)).close()
    return tmp_path / "s.db"


def batch(first_seq: int, *facts: bytes) -> Batch:
    return Batch(execution="e1", epoch=1, first_seq=first_seq, facts=facts)


def set_pages(store: SQLiteStore, limit: int) -> None:
    """How large the database may become, as if its disk were that small."""
    assert store._connection is not None
    store._connection.driver.execute(f"PRAGMA max_page_count = {limit}")


async def test_a_full_disk_refuses_what_does_not_fit_and_keeps_the_rest(store: SQLiteStore) -> None:
    await store.append([batch(1, b"acknowledged")])
    set_pages(store, 1)  # no less than it has
    large = batch(2, *[b"x" * 50_000] * 4)
    for _ in range(3):
        with pytest.raises(errors.StoreError, match=r"s\.db: the disk is full, so this was not written\. Make room"):
            await store.append([large])
    assert [fact.payload for fact in await store.facts("e1")] == [b"acknowledged"]
    assert await store.position() == 1
    set_pages(store, 1_000_000)
    (answer,) = await store.append([large])
    assert (answer.outcome, answer.new_from, answer.last_seq) == ("committed", 2, 5)


async def test_what_fits_is_written_beside_what_does_not(store: SQLiteStore) -> None:
    await store.append([batch(1, *[b"x" * 50_000] * 4)])
    set_pages(store, 1)
    both = [store.append([batch(5, b"x" * 5_000_000)]), store.record_occurrence("cron:w", 7)]
    large, small = await asyncio.gather(*both, return_exceptions=True)
    assert isinstance(large, errors.StoreError)
    assert small is None
    assert await store.last_occurrence("cron:w") == 7


async def test_a_file_that_may_not_grow_refuses_and_goes_on_once_it_may(path: Path) -> None:
    first, second, position, after = (await run(WITHOUT_ROOM, path)).splitlines()
    assert first == second
    assert "s.db: the disk failed (disk I/O error)" in first
    assert "Look for a quota, a limit on file sizes, or a broken device" in first
    assert (position, after) == ("0", "committed 1")


async def test_a_file_that_may_not_be_written_is_refused_and_left_alone(path: Path) -> None:
    path.chmod(0o400)  # noqa: ASYNC240 - at once
    assert "s.db: it cannot be written. Check the permissions of the file, of its directory" in await run(OPEN, path)
    assert sorted(os.listdir(path.parent)) == ["s.db", "s.db.lock"]
    path.chmod(0o600)  # noqa: ASYNC240 - at once
    assert await run(OPEN, path) == ""


async def test_a_log_that_may_not_be_written_is_refused(path: Path) -> None:
    log = path.with_name("s.db-wal")
    log.touch(0o400)
    assert "s.db: it cannot be written. Check the permissions" in await run(OPEN, path)
    log.chmod(0o600)
    assert await run(OPEN, path) == ""


@pytest.mark.parametrize(
    ("missing", "said"), [("", "Check the permissions of the file, of its directory"), ("s.db.lock", "Cannot create")]
)
async def test_a_directory_that_may_not_be_written_is_refused(path: Path, missing: str, said: str) -> None:
    path.with_name(missing or "none").unlink(missing_ok=True)
    path.parent.chmod(0o500)
    try:
        assert said in await run(OPEN, path)
    finally:
        path.parent.chmod(0o700)
    assert await run(OPEN, path) == ""


async def test_a_damaged_file_says_what_to_do(path: Path) -> None:
    content = bytearray(path.read_bytes())  # noqa: ASYNC240 - small
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)  # noqa: ASYNC240 - small
    with pytest.raises(errors.StoreError, match=r"s\.db: the file is damaged .*restore a backup"):
        await SQLiteStore(f"sqlite:///{path}").open()


def end_by_force(path: Path) -> tuple[str, int]:
    """Acknowledge five facts, each in its own transaction, and end without a chance to fold in the log."""
    command = [sys.executable, "-c", ACKNOWLEDGED, f"sqlite:///{path}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        incarnation, position = process.stdout.readline().split()
        process.kill()
    return incarnation, int(position)


@pytest.mark.parametrize("where", ["the last frame", "the middle", "the header"])
async def test_a_damaged_log_is_behind_what_was_acknowledged(path: Path, where: str) -> None:
    """SQLite says nothing, so only the position tells: it is lower than what others remember of this incarnation."""
    incarnation, acknowledged = await asyncio.to_thread(end_by_force, path)
    assert acknowledged == 5
    log = path.with_name("s.db-wal")
    content = bytearray(log.read_bytes())
    at = {"the last frame": len(content) - 100, "the middle": len(content) // 2, "the header": 20}[where]
    content[at] ^= 0xFF
    log.write_bytes(content)
    store = SQLiteStore(f"sqlite:///{path}")
    await store.open()
    position = await store.position()
    assert position < acknowledged
    assert len(await store.facts("e1")) == position
    (head,) = (await store.heads(["e1"])).values()
    assert head.last_seq == position
    if where == "the last frame":
        assert (position, await store.incarnation()) == (4, incarnation)
    await store.close()


async def test_a_log_that_is_gone_is_behind_what_was_acknowledged(path: Path) -> None:
    _, acknowledged = await asyncio.to_thread(end_by_force, path)
    path.with_name("s.db-wal").unlink()
    store = SQLiteStore(f"sqlite:///{path}")
    await store.open()
    assert await store.position() == 0 < acknowledged
    await store.close()


async def test_an_undamaged_log_gives_everything_back(path: Path, tmp_path: Path) -> None:
    incarnation, acknowledged = await asyncio.to_thread(end_by_force, path)
    shutil.copy(path.with_name("s.db-wal"), tmp_path / "as it was")
    store = SQLiteStore(f"sqlite:///{path}")
    await store.open()
    assert (await store.incarnation(), await store.position()) == (incarnation, acknowledged)
    await store.close()
