"""Registering, listing, reading and removing workflows over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import yaml

from dagengine.spec import document as documents
from orchestrator import errors, verbs

PATH = "/api/v1/workflows"
YAML_TYPES = ["application/yaml", "text/yaml", "application/x-yaml", "application/yaml; charset=utf-8"]


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    return response.status_code, body["type"].removeprefix("urn:dagengine:problem:")


async def test_a_json_document_is_registered(http, memory, new_document) -> None:
    response = await http.post(PATH, json=new_document())
    assert response.status_code == 201
    assert response.headers["location"] == f"{PATH}/greeting?version=1.0.0"
    assert response.json() == {
        "id": "greeting",
        "version": "1.0.0",
        "digest": memory.documents["greeting", "1.0.0"].digest,
        "created": True,
    }
    again = await http.get(response.headers["location"])
    assert again.json()["id"] == "greeting"


@pytest.mark.parametrize("media_type", YAML_TYPES)
async def test_a_yaml_document_is_registered(http, memory, new_document, media_type: str) -> None:
    text = yaml.safe_dump(new_document())
    response = await http.post(PATH, content=text, headers={"content-type": media_type})
    assert response.status_code == 201
    assert ("greeting", "1.0.0") in memory.documents


async def test_the_same_content_again_is_not_created(http, new_document) -> None:
    await http.post(PATH, json=new_document())
    response = await http.post(PATH, json=new_document())
    assert response.status_code == 200
    assert response.json()["created"] is False


async def test_another_content_for_a_version_is_a_conflict(http, new_document) -> None:
    await http.post(PATH, json=new_document())
    response = await http.post(PATH, json=new_document(description="changed"))
    assert problem(response) == (409, "version-conflict")
    assert "greeting@1.0.0" in response.json()["detail"]


async def test_a_wrong_document_is_answered_with_all_its_problems_and_not_registered(http, memory) -> None:
    text = "apiVersion: workflows/v1\nkind: Workflow\nmetadata: {id: a b, version: one}\nspec: {nodes: []}\n"
    response = await http.post(PATH, content=text, headers={"content-type": "text/yaml"})
    assert problem(response) == (422, "invalid-document")
    found = {(item["path"], item["line"]) for item in response.json()["errors"]}
    assert {("metadata.id", 3), ("metadata.version", 3), ("spec.nodes", 4)} <= found
    assert all(item["message"] and item["column"] for item in response.json()["errors"])
    assert not memory.documents


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"apiVersion": "workflows/v1",\n "kind" 1}', "line 2, column 9"),
        (b"not json", "line 1, column 1"),
        (b"\xff\xfe", "line 1, column 1"),
        (b"[" * 5_000, "depth"),
    ],
)
async def test_a_body_that_is_not_json_is_told_where(http, memory, body: bytes, where: str) -> None:
    response = await http.post(PATH, content=body, headers={"content-type": "application/json"})
    assert problem(response) == (400, "bad-request")
    assert where in response.json()["detail"]
    assert not memory.documents


@pytest.mark.parametrize(
    "media_type", [None, "text/plain", "application/xml", "multipart/form-data", "application/json; charset=latin-1"]
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_other_media_types_are_refused(http, new_document, method: str, media_type: str | None) -> None:
    path = PATH if method == "POST" else f"{PATH}/greeting"
    headers = {} if media_type is None else {"content-type": media_type}
    response = await http.request(method, path, content=json.dumps(new_document()).encode(), headers=headers)
    assert problem(response) == (415, "unsupported-media-type")
    assert "application/yaml" in response.headers["accept"]


async def test_an_empty_body_is_no_document(http) -> None:
    response = await http.post(PATH, content=b"  ", headers={"content-type": "text/yaml"})
    assert problem(response) == (400, "bad-request")


async def test_workflows_are_listed_and_filtered_by_label(http, registered) -> None:
    everything = (await http.get(PATH)).json()["items"]
    assert {item["id"] for item in everything} == {"greeting", "slow"}
    some = (await http.get(PATH, params={"filter": "team=slow"})).json()["items"]
    assert [item["id"] for item in some] == ["slow"]


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("greeting", "1.1.0"),
        ("greeting?version=1.0.0", "1.0.0"),
        ("greeting?version=%5E1", "1.1.0"),
        ("greeting@1.0.0", "1.0.0"),
        ("greeting@latest", "1.1.0"),
    ],
)
async def test_a_version_is_read(http, registered, path: str, version: str) -> None:
    body = (await http.get(f"{PATH}/{path}")).json()
    assert body["version"] == version
    assert body["versions"] == ["1.1.0", "1.0.0"]
    assert body["document"]["metadata"]["version"] == version


async def test_a_version_is_named_only_once(http, registered) -> None:
    response = await http.get(f"{PATH}/greeting@1.0.0?version=1.1.0")
    assert problem(response) == (400, "bad-request")


async def test_an_unknown_workflow_is_not_found(http) -> None:
    response = await http.get(f"{PATH}/nothing")
    assert problem(response) == (404, "not-found")
    assert response.json()["instance"] == f"{PATH}/nothing"


async def test_put_registers_the_workflow_of_its_path(http, memory, new_document) -> None:
    response = await http.put(f"{PATH}/greeting?version=1.0.0", json=new_document())
    assert response.status_code == 201
    assert ("greeting", "1.0.0") in memory.documents


@pytest.mark.parametrize("path", ["other", "greeting?version=2.0.0"])
async def test_put_refuses_another_id_or_version(http, memory, new_document, path: str) -> None:
    response = await http.put(f"{PATH}/{path}", json=new_document())
    assert problem(response) == (400, "bad-request")
    assert "document's metadata." in response.json()["detail"]
    assert not memory.documents


async def test_put_leaves_reading_the_document_to_the_registry(http, memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a large document takes seconds: it happens once, and not on the event loop."""
    given = []

    async def apply(document: bytes, *, expected: str | None = None) -> verbs.Registration:
        given.append((document, expected))
        return verbs.Registration(id="w", version="1.0.0", digest="d", created=True)

    def read(*arguments: object, **options: object) -> None:
        raise AssertionError("read on the event loop")

    monkeypatch.setattr(memory, "apply", apply)
    monkeypatch.setattr(documents, "read", read)
    monkeypatch.setattr(documents, "from_dict", read)
    response = await http.put(f"{PATH}/w?version=1.0.0", content="a: 1", headers={"content-type": "application/yaml"})
    assert response.status_code == 201
    assert given == [(b"a: 1", "w@1.0.0")]


async def test_a_document_that_is_wrong_all_over_is_answered_in_short(http) -> None:
    nodes = [{"id": f"n{number}", "dependencies": [f"x{number}"]} for number in range(700)]
    document = {"metadata": {"id": "w", "version": "1.0.0"}, "spec": {"nodes": nodes}}
    details = (await http.post(PATH, json=document)).json()
    assert len(details["errors"]) == 1_000
    assert details["detail"] == f"the workflow document has {1_000 + details['omitted']:,} problems"


async def test_put_of_a_wrong_document_lists_its_problems(http) -> None:
    response = await http.put(f"{PATH}/greeting", json={"kind": "Workflow"})
    assert problem(response) == (422, "invalid-document")
    assert response.json()["errors"]


async def test_one_version_is_removed_or_all(http, registered) -> None:
    assert (await http.delete(f"{PATH}/greeting?version=1.0.0")).json() == {"removed": 1}
    assert (await http.delete(f"{PATH}/greeting")).json() == {"removed": 1}
    assert problem(await http.delete(f"{PATH}/greeting")) == (404, "not-found")


async def test_a_workflow_in_use_is_removed_only_by_force(http, registered) -> None:
    await registered.start("slow")
    assert problem(await http.delete(f"{PATH}/slow")) == (409, "in-use")
    assert (await http.delete(f"{PATH}/slow?force=true")).json() == {"removed": 1}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("froce=true", "unknown query parameter 'froce'; this operation takes: version, force"),
        ("force=yes", "query parameter 'force' must be true or false, not 'yes'"),
        ("force=true&force=false", "query parameter 'force' is given twice"),
        ("version=", "query parameter 'version' must be a text of 1 to 1024 characters, not ''"),
        ("version=%ff", "the query cannot be read"),
    ],
)
async def test_wrong_query_parameters_are_named(http, registered, query: str, message: str) -> None:
    response = await http.delete(f"{PATH}/greeting?{query}")
    assert problem(response) == (400, "bad-request")
    assert response.json()["detail"].startswith(message)
    assert len(registered.documents) == 3


@pytest.mark.parametrize(
    ("path", "raised", "expected"),
    [
        (PATH, errors.RequestError("the selector is wrong"), (400, "bad-request")),
        (PATH, errors.Unavailable("later"), (503, "unavailable")),
        (PATH + "/greeting/executions", errors.Unavailable("nobody"), (503, "unavailable")),
        (PATH + "/greeting/executions", errors.Overloaded("full", retry_after=1.2), (429, "overloaded")),
        ("/api/v1/executions/x1/cancel", errors.Conflict("it has ended"), (409, "conflict")),
    ],
)
async def test_errors_of_the_verbs_keep_their_meaning(
    http, memory, path: str, raised: Exception, expected: tuple[int, str]
) -> None:
    memory.failure = raised
    response = await (http.get(path) if path == PATH else http.post(path))
    assert problem(response) == expected
    assert response.json()["detail"] == str(raised)
    assert response.headers.get("retry-after") == {429: "2", 503: "1"}.get(expected[0])


async def test_a_store_that_cannot_be_used_may_be_tried_again(
    http, memory, captured_logs: Callable[[], list[dict[str, Any]]]
) -> None:
    memory.failure = errors.StoreError("disk sda1 is full")
    response = await http.get(PATH)
    assert problem(response) == (503, "unavailable")
    assert "sda1" not in response.text
    (logged,) = captured_logs()
    assert (logged["event"], logged["error"]) == ("store_failed", "disk sda1 is full")
    assert logged["incident"] == response.json()["incident"]
    assert logged["incident"] in response.json()["detail"]


@pytest.mark.parametrize("raised", [ZeroDivisionError("secret"), errors.TransportError("10.0.0.1")])
async def test_our_own_faults_are_told_by_number_only(
    http, memory, raised: Exception, captured_logs: Callable[[], list[dict[str, Any]]]
) -> None:
    memory.failure = raised
    response = await http.get(PATH)
    assert problem(response) == (500, "internal")
    assert str(raised) not in response.text
    assert "Traceback" not in response.text
    (logged,) = captured_logs()
    assert logged["event"] == "request_failed"
    assert logged["incident"] == response.json()["incident"]
    assert logged["exc_info"] is raised
