"""Journals to take away, and executions that are deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from orchestrator.api import server
from orchestrator.client import Client
from orchestrator.errors import NotFound, RequestError

PURGE = "/api/v1/purge"


@pytest.fixture
async def client(serving: server.Serving) -> AsyncIterator[Client]:
    async with Client(serving.url) as client:
        yield client


async def test_a_journal_begins_with_its_execution_and_its_document(http, registered) -> None:
    await http.post("/api/v1/workflows/greeting/executions?wait=true", json={"inputs": {"name": "Ada"}})
    header = (await http.get("/api/v1/executions/x1/journal")).json()
    assert header["format"] == "dagengine-journal/1"
    assert header["seed"] == 2**63 - 1
    assert header["document"]["metadata"]["id"] == "greeting"
    assert (await http.get("/api/v1/executions/x9/journal")).status_code == 404


async def test_a_purge_without_a_body_goes_by_the_retention_of_workflows(http, memory) -> None:
    assert (await http.post(PURGE)).status_code == 200
    assert memory.purges == [
        {"workflow": None, "older_than": None, "keep": None, "dry_run": False, "within": 5.0},
    ]


async def test_a_purge_tells_what_went_and_what_is_left(http, memory, registered) -> None:
    for _ in range(2):
        await http.post("/api/v1/workflows/greeting/executions?wait=true", json={})
    first = (await http.post(PURGE, json={"workflow": "greeting", "older_than": "30d", "keep": 0})).json()
    assert (first["executions"], first["more"]) == (1, True)
    assert first["workflows"][0]["workflow"] == "greeting"
    second = (await http.post(PURGE, json={"older_than": 60})).json()
    assert (second["executions"], second["more"]) == (1, False)
    assert memory.purges[0]["older_than"] == "30d"
    assert memory.purges[1]["older_than"] == 60


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"within": 0}, "`within` must be more than 0 and at most 20 seconds, not 0"),
        ({"within": 60}, "`within` must be more than 0 and at most 20 seconds, not 60"),
        ({"older": "30d"}, "Object contains unknown field `older`"),
        ({"dry_run": "yes"}, "Expected `bool`, got `str`"),
    ],
    ids=["never", "too-long", "misspelt", "text"],
)
async def test_what_cannot_be_meant_is_refused(http, memory, body: dict[str, object], said: str) -> None:
    refused = await http.post(PURGE, json=body)
    assert refused.status_code == 400
    assert said in refused.json()["detail"]
    assert memory.purges == []


async def test_the_client_asks_until_nothing_is_left(client: Client, memory, registered) -> None:
    for _ in range(3):
        await client.start("greeting")
    assert (await client.purge(keep=0, dry_run=True)).executions == 3
    report = await client.purge(keep=0)
    assert (report.executions, report.rows, report.more) == (3, 12, False)
    assert report.workflows[0].executions == 3
    assert len(memory.purges) == 4


async def test_the_client_asks_once_for_a_turn(client: Client, memory, registered) -> None:
    for _ in range(3):
        await client.start("greeting")
    report = await client.purge(keep=0, within=1.0)
    assert (report.executions, report.more) == (1, True)
    assert len(memory.purges) == 1


async def test_the_client_raises_what_the_verb_raises(client: Client, memory) -> None:
    memory.failure = NotFound("there is no workflow 'nope'")
    with pytest.raises(NotFound, match="no workflow 'nope'"):
        await client.purge(workflow="nope")
    with pytest.raises(RequestError, match="`within` must be"):
        await client.purge(within=100)


async def test_the_client_reads_the_header_of_a_journal(client: Client, registered) -> None:
    view = await client.start("greeting")
    header = await client.journal(view.id)
    assert (header.execution, header.seed) == (view.id, 2**63 - 1)
