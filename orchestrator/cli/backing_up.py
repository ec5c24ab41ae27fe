"""What `dagctl backup` and `restore` do: a copy of the store in a file, and back."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from orchestrator import drafts
from orchestrator.cli import printing
from orchestrator.errors import RequestError
from orchestrator.store import backup as copies
from orchestrator.store import sqlite_connection

__all__ = ["backup", "restore"]


def backup(file: str, url: str, *, force: bool, quiet: bool) -> None:
    """Copy the store at `url` into `file`. Raises RequestError, StoreError."""
    source = _path(
        url,
        "A PostgreSQL database is copied by its own tools, also while orchestrators run:\n"
        f'  pg_dump --format=custom --file={shlex.quote(file)} "$DATABASE_URL"',
    )
    place = Path(file)
    if place.exists() and place.resolve() == source:
        raise RequestError(f"{file} is the store itself: give the copy another name")
    with drafts.draft(place, force=force) as draft:
        contents = copies.copy(source, draft, progress=_progress(quiet))
    printing.write(f"{file}: {_told(contents)}")


def restore(file: str, url: str, *, force: bool, quiet: bool) -> None:
    """Put the copy in `file` in the place of the store at `url`. Raises RequestError, StoreError."""
    place = _path(
        url,
        "A PostgreSQL database is restored by its own tools, while no orchestrator runs:\n"
        f'  pg_restore --clean --if-exists --single-transaction --dbname="$DATABASE_URL" {shlex.quote(file)}',
    )
    if Path(file).resolve() == place:
        raise RequestError(f"{file} is the store itself: there is nothing to restore")
    sqlite_connection.make_parent(place)
    contents = copies.put_back(Path(file), place, force=force, progress=_progress(quiet))
    printing.write(f"{place}: {_told(contents)}")


def _path(url: str, otherwise: str) -> Path:
    """The file of a SQLite store. RequestError with `otherwise` for PostgreSQL."""
    if url.partition(":")[0].partition("+")[0] in ("postgresql", "postgres"):
        raise RequestError(f"{otherwise}\nSee docs/backup.md.")
    path = sqlite_connection.path_of(url)
    if path is None:
        raise RequestError("a store in memory is gone with its process, and there is no way to it from outside")
    return path


def _told(contents: copies.Contents) -> str:
    count = f"{contents.executions:,} execution{'' if contents.executions == 1 else 's'}"
    return (
        f"{count}, facts up to position {contents.facts:,}, schema {contents.revision}, {contents.size / 1e6:,.1f} MB"
    )


def _progress(quiet: bool) -> copies.Progress:
    shows = not quiet and sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        if shows and total:
            sys.stderr.write(f"\r{100 * done // total:3d} %" + ("\n" if done == total else ""))
            sys.stderr.flush()

    return show
