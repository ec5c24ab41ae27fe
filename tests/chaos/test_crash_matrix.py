"""Kill everything, at any time: nothing that was accepted is lost, nothing that is committed runs twice.

`make test` plays some faults, each once; `make test-chaos` plays 200 rounds for each store, and tells of each.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos_campaign import Campaign
from chaos_databases import Database, PostgreSQL, SQLite
from chaos_system import System

pytestmark = [pytest.mark.e2e, pytest.mark.chaos]

ROUNDS = int(os.environ.get("CHAOS_ROUNDS") or 0) or None
SEED = int(os.environ.get("CHAOS_SEED") or (secrets.randbelow(1_000_000) if ROUNDS else 4))


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Where everything is written. It stays when something went wrong: pytest's own directories do not for long."""
    folder = Path(tempfile.mkdtemp(prefix="dagengine-chaos-"))
    failed = request.session.testsfailed
    yield folder
    if request.session.testsfailed == failed:
        shutil.rmtree(folder)


async def test_crash_matrix_over_sqlite(folder: Path) -> None:
    await campaign(folder, SQLite(folder))


async def test_crash_matrix_over_postgresql(folder: Path, postgres_server: Any) -> None:
    await campaign(folder, PostgreSQL(postgres_server))


async def campaign(folder: Path, database: Database) -> None:
    print(f"\n{database.name}: seed {SEED}, in {folder}")
    system = System(folder, database)
    try:
        await system.open()
        await Campaign(system, seed=SEED, rounds=ROUNDS, tell=print).run()
    finally:
        await system.close()
