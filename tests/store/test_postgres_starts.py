"""Starts that are written together: each is answered, whatever becomes of the write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import StoreError
from orchestrator.store.base import NewExecution
from orchestrator.store.postgres_starts import Starts


def new(id: str) -> NewExecution:
    return NewExecution(id=id, workflow="w", version="1.0.0", digest="sha256:0", inputs=b"{}", created_at=1, seed=1)


async def test_what_comes_after_a_write_that_never_began_is_not_left_with_it() -> None:
    """A writer without a connection fails before it looks at what it was given."""
    asked: list[Callable[..., Any]] = []

    def submit(write: Callable[..., Any]) -> asyncio.Future[Any]:
        asked.append(write)
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_exception(StoreError("the database is away"))
        return done

    starts = Starts(submit)
    for id in ("first", "second"):
        async with asyncio.timeout(5):
            with pytest.raises(StoreError, match="away"):
                await starts.add(new(id), "replica")
    assert len(asked) == 2
