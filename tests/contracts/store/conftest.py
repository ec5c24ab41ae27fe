"""Every adapter of the store port, for the one suite that all of them must pass."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from orchestrator.store import base, opening
from orchestrator.store.sqlite import SQLiteStore


@pytest.fixture(scope="module", params=["sqlite-file", "sqlite-memory", "postgres"])
def new_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], base.Store]:
    """Makes empty stores, not yet open."""
    if request.param == "sqlite-memory":
        return SQLiteStore
    if request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        return lambda: opening.make(server.emptied())
    directory = tmp_path_factory.mktemp("stores")
    numbers = itertools.count()
    return lambda: SQLiteStore(f"sqlite:///{directory}/{next(numbers)}.db")


@pytest.fixture
async def store(new_store: Callable[[], base.Store]) -> AsyncIterator[base.Store]:
    """An open, empty store."""
    opened = new_store()
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def shared_stores(postgres_server: Any) -> AsyncIterator[tuple[base.Store, base.Store]]:
    """Two open stores over one empty database; PostgreSQL is the adapter that lets several processes in."""
    url = postgres_server.emptied()
    one, two = opening.make(url), opening.make(url)
    await asyncio.gather(one.open(), two.open())
    yield one, two
    await one.close()
    await two.close()


@pytest.fixture(scope="session")
def version() -> Callable[..., base.VersionRecord]:
    """`version("w", "1.0.0", …)`: a version whose content is its name, unless `digest` says otherwise."""

    def make(
        workflow: str = "w", number: str = "1.0.0", *, digest: str = "", registered_at: int = 1
    ) -> base.VersionRecord:
        return base.VersionRecord(
            workflow=workflow,
            version=number,
            digest=digest or f"sha256:{workflow}-{number}",
            document=b'{"id":"%s"}' % workflow.encode(),
            labels={"team": "data"},
            name="A workflow",
            description="What it does",
            registered_at=registered_at,
        )

    return make


@pytest.fixture(scope="session")
def new_execution() -> Callable[..., base.NewExecution]:
    """`new_execution("e1", …)`: an execution of the version `w@1.0.0`."""

    def make(
        id: str = "e1",
        *,
        workflow: str = "w",
        version: str = "1.0.0",
        created_at: int = 100,
        seed: int = 7,
        idempotency_key: str | None = None,
        trigger: str = "api",
        occurrence: str | None = None,
        priority: int = 0,
        concurrency_key: str | None = None,
        most: int | None = None,
        owned: bool = True,
    ) -> base.NewExecution:
        return base.NewExecution(
            id=id,
            workflow=workflow,
            version=version,
            digest=f"sha256:{workflow}-{version}",
            inputs=b'{"limit":1}',
            created_at=created_at,
            seed=seed,
            idempotency_key=idempotency_key,
            trigger=trigger,
            occurrence=occurrence,
            priority=priority,
            concurrency_key=concurrency_key,
            most=most,
            owned=owned,
        )

    return make


@pytest.fixture
async def dispatched(
    store: base.Store, version: Callable[..., base.VersionRecord], new_execution: Callable[..., base.NewExecution]
) -> base.Store:
    """A store with execution `e1`, dispatched to `engine-1` under epoch 1."""
    await store.add_version(version())
    await store.create_execution(new_execution())
    await store.dispatch(["e1"], "engine-1")
    return store


@pytest.fixture
async def joined(
    store: base.Store, version: Callable[..., base.VersionRecord], new_execution: Callable[..., base.NewExecution]
) -> base.Store:
    """A store that replica `r1` has joined, with its execution `e1`, dispatched to `engine-1` under epoch 1."""
    await store.add_version(version())
    await store.join("r1", name="one", lease=60_000_000)
    await store.create_execution(new_execution())
    await store.dispatch(["e1"], "engine-1")
    return store
