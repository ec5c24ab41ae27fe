"""Engines, pools, health, readiness and metrics."""

from __future__ import annotations

import httpx

from orchestrator import verbs


async def test_engines_are_listed(http, memory) -> None:
    memory.engine_views = [
        verbs.EngineView(
            id="engine-1",
            address="127.0.0.1:50051",
            state="ready",
            capacity=10,
            running=1,
            version="0.1.0",
            executors=["lua"],
            labels={"zone": "a"},
            workflows=["greeting@1.0.0"],
            started=3,
        )
    ]
    (engine,) = (await http.get("/api/v1/engines")).json()["items"]
    assert engine["id"] == "engine-1"
    assert engine["labels"] == {"zone": "a"}


async def test_pools_are_listed(http, memory) -> None:
    memory.pool_views = [
        verbs.PoolView(name="db", scope="system", size=10, used=4, waiting=1, rate="10/s"),
        verbs.PoolView(name="gpu", scope="engine", engine="engine-1", size=1, used=0, waiting=0),
    ]
    assert (await http.get("/api/v1/pools")).json()["items"] == [
        {"name": "db", "scope": "system", "size": 10, "used": 4, "waiting": 1, "rate": "10/s"},
        {"name": "gpu", "scope": "engine", "engine": "engine-1", "size": 1, "used": 0, "waiting": 0},
    ]


async def test_replicas_are_listed(http, memory) -> None:
    memory.replica_views = [verbs.ReplicaView(name="one", leads=True, joined_at=1, until=2)]
    assert (await http.get("/api/v1/replicas")).json()["items"] == [
        {"name": "one", "leads": True, "joined_at": 1, "until": 2}
    ]


async def test_a_process_that_answers_is_healthy(http) -> None:
    response = await http.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_a_process_that_should_be_started_anew_is_not(http, faults: list[str]) -> None:
    faults.append("the task 'cron' has died; the log tells why")
    response = await http.get("/healthz")
    assert (response.status_code, response.json()) == (503, {"status": "broken", "reasons": faults})


async def test_warnings_are_told_with_the_health(make_app, memory) -> None:
    app = make_app(warnings=lambda: ["the store has lost facts"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        response = await http.get("/healthz")
    assert (response.status_code, response.json()) == (
        200,
        {"status": "ok", "warnings": ["the store has lost facts"]},
    )


async def test_readiness_gives_its_reasons(http, reasons: list[str]) -> None:
    ready = await http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})
    reasons.append("no engine is connected")
    unready = await http.get("/readyz")
    assert (unready.status_code, unready.json()) == (
        503,
        {"ready": False, "reasons": ["no engine is connected"]},
    )
    takes = await http.get("/readyz?without_engines=true")
    assert (takes.status_code, takes.json()) == (200, {"ready": True, "reasons": []})


async def test_metrics_are_prometheus_text(http) -> None:
    response = await http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert response.text == "# TYPE up gauge\nup 1.0\n"


async def test_head_is_get_without_body(serving) -> None:
    import httpx

    async with httpx.AsyncClient(base_url=serving.url) as http:
        response = await http.head("/healthz")
    assert response.status_code == 200
    assert response.content == b""
    assert response.headers["content-length"] == str(len(b'{"status":"ok"}'))
