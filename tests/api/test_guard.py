"""Who may ask: hosts, origins, tokens."""

from __future__ import annotations

import httpx
import pytest

SECRET = "correct horse battery staple"  # spaces are part of it
START = "/api/v1/workflows/greeting/executions"
GUARDED = [
    ("GET", "/api/v1/workflows"),
    ("POST", START),
    ("GET", "/api/v1/engines"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("POST", "/trigger/greeting"),
    ("GET", "/nothing/here"),
    ("PATCH", "/healthz/"),
]
GOOD_HOSTS = [
    "localhost",
    "LOCALHOST:8080",
    "localhost.",
    "api.localhost",
    "127.0.0.1",
    "127.0.0.1:8080",
    "127.9.9.9",
    "[::1]:8080",
    "10.1.2.3:8080",
    "orchestrator.example.org",
    "Orchestrator.Example.org:443",
    "a.pods.example.org",
]
BAD_HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "orchestrator.example.org.evil.example",
    "pods.example.org",
    "evilpods.example.org",
    "[::1",
    "localhost@evil.example",
    "",
    ":8080",
]


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].removeprefix("urn:dagengine:problem:")


@pytest.fixture
def guarded(make_app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(make_app(token=SECRET)), base_url="http://localhost")


@pytest.fixture
def named(make_app) -> httpx.AsyncClient:
    app = make_app(allowed_hosts=["Orchestrator.example.org", "*.pods.example.org"])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Basic {SECRET}", SECRET, f"Bearer {SECRET}x", "Bearer \xe9"],
)
async def test_everything_needs_the_token(
    guarded, registered, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
    response = await guarded.request(method, path, headers=headers)
    assert problem(response) == (401, "unauthorized")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert SECRET not in response.text
    assert not registered.views


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_the_token_opens_everything(guarded, registered, method: str, path: str, scheme: str) -> None:
    response = await guarded.request(method, path, headers={"authorization": f"{scheme} {SECRET}"})
    assert response.status_code != 401


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_open(guarded, path: str) -> None:
    response = await guarded.get(path, headers={"host": "some.pod", "origin": "https://elsewhere.example"})
    assert response.status_code == 200


@pytest.mark.parametrize("host", GOOD_HOSTS)
async def test_own_hosts_are_answered(named, host: str) -> None:
    assert (await named.get("/api/v1/workflows", headers={"host": host})).status_code == 200


@pytest.mark.parametrize("host", BAD_HOSTS)
async def test_other_hosts_are_refused(named, registered, host: str) -> None:
    response = await named.post(START, headers={"host": host})
    assert problem(response) == (421, "unknown-host")
    assert not registered.views


async def test_a_star_allows_any_host(make_app) -> None:
    transport = httpx.ASGITransport(make_app(allowed_hosts=["*"]))
    async with httpx.AsyncClient(transport=transport, base_url="http://any.example") as http:
        assert (await http.get("/api/v1/workflows")).status_code == 200


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:8080", "http://localhost:8080"),
        ("LOCALHOST:8080", "http://localhost:8080"),
        ("localhost", "http://localhost"),
        ("localhost:80", "http://localhost"),
        ("localhost", "https://localhost"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)
async def test_pages_of_the_same_origin_may_ask(named, registered, host: str, origin: str) -> None:
    response = await named.post(START, headers={"host": host, "origin": origin})
    assert response.status_code == 202


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://localhost:3000",
        "http://127.0.0.1:8080",
        "null",
        "http://localhost:8080.evil.example",
        "file://",
        "localhost:8080",
    ],
)
async def test_pages_of_other_origins_are_refused(named, registered, method: str, origin: str) -> None:
    headers = {"host": "localhost:8080", "origin": origin}
    response = await named.request(method, "/api/v1/workflows/greeting", headers=headers)
    assert problem(response) == (403, "foreign-origin")
    assert len(registered.documents) == 3
    assert "access-control-allow-origin" not in response.headers


async def test_answers_are_neither_stored_nor_sniffed(http) -> None:
    for path in ("/api/v1/workflows", "/nothing"):
        response = await http.get(path)
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/api/v1/executions/a%00b", "/api/v1/executions?workflow=a%00b"])
async def test_a_nul_names_nothing(named, path: str) -> None:
    """No text of a database has one: it would be asked in vain, and take that for a fault of its own."""
    response = await named.get(path)
    assert problem(response) == (400, "bad-request")
