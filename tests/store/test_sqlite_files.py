"""The file behind the store: where it may be, who may have it, and whether it is still the same one."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import errors
from orchestrator.store.base import NewExecution, VersionRecord
from orchestrator.store.lock import ProcessLock
from orchestrator.store.sqlite import SQLiteStore

OPEN = """
import asyncio, sys
from orchestrator import errors
from orchestrator.store.sqlite import SQLiteStore
try:
    asyncio.run(SQLiteStore(sys.argv[1]).open())
except errors.StoreError as error:
    print(error)
"""

FORK = """
import os, sys
from pathlib import Path
from orchestrator.store.lock import ProcessLock
path = Path(sys.argv[1])
lock = ProcessLock(path, guarded=path)
if os.fork() == 0:
    print("child", flush=True)
    sys.stdin.read()
os._exit(0)
"""


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def modes_in(folder: Path) -> dict[str, int]:
    """Who may do what with each file."""
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


async def incarnation(path: Path) -> str:
    """Open the store, ask, and close it."""
    store = SQLiteStore(url(path))
    await store.open()
    try:
        return await store.incarnation()
    finally:
        await store.close()


async def test_missing_directories_are_made(tmp_path: Path) -> None:
    await incarnation(tmp_path / "not" / "yet there" / "100% ours#.db")
    assert (tmp_path / "not" / "yet there" / "100% ours#.db").is_file()


async def test_what_is_kept_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        store = SQLiteStore(url(tmp_path / "s.db"))
        await store.open()
    finally:
        os.umask(before)
    modes = modes_in(tmp_path)
    await store.close()
    assert modes == dict.fromkeys(("s.db", "s.db-wal", "s.db-shm", "s.db.lock"), 0o600)


async def test_a_file_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.touch()
    path.chmod(0o640)
    await incarnation(path)
    assert path.stat().st_mode & 0o777 == 0o640


async def test_relative_paths_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("sqlite:///data/store.db")
    await store.open()
    await store.close()
    assert (tmp_path / "data" / "store.db").is_file()


async def test_commits_are_durable_before_they_are_acknowledged(tmp_path: Path) -> None:
    store = SQLiteStore(url(tmp_path / "s.db"))
    await store.open()
    connection = store._connection
    assert connection is not None
    settings = {
        name: connection.driver.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys")
    }
    await store.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    assert sorted(os.listdir(tmp_path)) == ["s.db", "s.db.lock"]  # the log was folded in


@pytest.mark.parametrize(
    "wrong", ["", "store.db", "sqlite:///", "sqlite:///x.db?mode=ro", "mysql://localhost/x", "sqlite:/x.db"]
)
def test_other_urls_are_refused(wrong: str) -> None:
    with pytest.raises(errors.StoreError, match=r"Write sqlite:///relative/path\.db"):
        SQLiteStore(wrong)


def test_a_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(errors.StoreError, match="'postgresql://…' is not a store") as caught:
        SQLiteStore("postgresql://user:hunter2@host/db")
    assert "hunter2" not in str(caught.value)


async def test_what_is_not_a_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are my notes.\n" * 100)
    with pytest.raises(errors.StoreError, match=r"notes\.txt: it is not a SQLite database"):
        await SQLiteStore(url(path)).open()
    assert path.read_text() == "These are my notes.\n" * 100


async def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE customers (id INTEGER)")
    other.close()
    with pytest.raises(errors.StoreError, match=r"other\.db is a database of something else .*'customers'"):
        await SQLiteStore(url(path)).open()
    other = sqlite3.connect(path)
    assert [name for (name,) in other.execute("SELECT name FROM sqlite_master")] == ["customers"]
    other.close()


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.StoreError, match="is a directory: name a file in it"):
        await SQLiteStore(url(tmp_path)).open()


async def test_a_place_that_cannot_hold_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StoreError, match=r"Cannot make the directory .*file/sub.*: Not a directory"):
        await SQLiteStore(url(tmp_path / "file" / "sub" / "s.db")).open()


async def test_a_store_that_could_not_be_opened_can_be_opened_once_it_is_right(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    path.write_text("not a database" * 100)
    store = SQLiteStore(url(path))
    for _ in range(2):  # the lock is not left behind either
        with pytest.raises(errors.StoreError, match="not a SQLite database"):
            await store.open()
    path.unlink()
    await store.open()
    await store.close()


async def test_a_second_process_is_refused_with_the_first_ones_id(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    store = SQLiteStore(url(path))
    await store.open()
    second = await asyncio.to_thread(open_elsewhere, path)
    await store.close()
    assert f"{path} is in use by process {os.getpid()} (lock file {path}.lock)" in second
    assert await asyncio.to_thread(open_elsewhere, path) == ""


def open_elsewhere(path: Path) -> str:
    """Open the store in another process; what it complains about."""
    done = subprocess.run([sys.executable, "-c", OPEN, url(path)], capture_output=True, text=True, check=True)
    return done.stdout


async def test_the_same_file_under_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "s.db")
    store = SQLiteStore(url(tmp_path / "s.db"))
    await store.open()
    with pytest.raises(errors.StoreError, match=r"s\.db is in use by process"):
        await SQLiteStore(url(tmp_path / "link.db")).open()
    await store.close()


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    process = subprocess.Popen(
        [sys.executable, "-c", FORK, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "child\n"
        process.wait(30)  # the parent; the child reads on
        lock = ProcessLock(path, guarded=path)
        lock.release()


async def test_the_incarnation_survives_reopening(tmp_path: Path) -> None:
    first = await incarnation(tmp_path / "s.db")
    assert [await incarnation(tmp_path / "s.db") for _ in range(2)] == [first, first]


async def test_a_restored_backup_is_another_incarnation(tmp_path: Path) -> None:
    path, backup = tmp_path / "s.db", tmp_path / "backup.db"
    first = await incarnation(path)
    shutil.copy(path, backup)
    assert await incarnation(path) == first
    shutil.copy(backup, path)  # in place: the same inode
    second = await incarnation(path)
    assert second != first
    backup.rename(path)  # another inode
    third = await incarnation(path)
    assert third not in (first, second)


async def test_a_backup_taken_while_the_store_was_open_is_another_incarnation(tmp_path: Path) -> None:
    path, backup = tmp_path / "s.db", tmp_path / "backup.db"
    store = SQLiteStore(url(path))
    await store.open()
    first = await store.incarnation()
    source, target = sqlite3.connect(path), sqlite3.connect(backup)
    source.backup(target)
    source.close()
    target.close()
    await store.close()
    backup.rename(path)
    assert await incarnation(path) != first


async def test_a_store_in_memory_is_gone_when_closed(version: VersionRecord) -> None:
    store = SQLiteStore(":memory:")
    await store.open()
    first = await store.incarnation()
    await store.add_version(version)
    await store.close()
    await store.open()
    assert await store.versions() == []
    assert await store.incarnation() != first
    await store.close()


async def test_there_is_nobody_to_hear_of(tmp_path: Path) -> None:
    store = SQLiteStore(url(tmp_path / "s.db"))
    await store.open()
    heard: list[str] = []
    store.listen(heard.append)
    await store.join("r1", name="one", lease=1)
    await store.record_occurrence("cron:w", 1)
    await store.leave()
    await store.close()
    assert heard == []


async def test_whoever_opens_the_file_knows_that_the_one_before_is_gone(tmp_path: Path, version: VersionRecord) -> None:
    for number in (1, 2):
        store = SQLiteStore(url(tmp_path / "s.db"))
        await store.open()
        assert [replica.id for replica in await store.replicas()] == ["r1"][: number - 1]
        membership = await store.join(f"r{number}", name="one", lease=3_600_000_000)
        assert (membership.term, membership.others) == (number, 0)
        assert [replica.id for replica in await store.replicas()] == [f"r{number}"]
        claimed = await store.claim(now=0, limit=5, keyed=True)
        assert [record.id for record in claimed] == ["e1"][: number - 1]
        if number == 1:
            await store.add_version(version)
            new = NewExecution(id="e1", workflow="w", version="1.0.0", digest="d", inputs=b"{}", created_at=1, seed=1)
            await store.create_execution(new)
        await store.close()  # without leaving
