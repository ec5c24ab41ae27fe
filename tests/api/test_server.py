"""Starting and stopping the server inside a process."""

from __future__ import annotations

import asyncio
import signal
import ssl
from pathlib import Path

import httpx
import pytest

from dagengine.errors import SettingsError
from orchestrator.api import server

CERTIFICATE = Path(__file__).parent / "localhost.pem"
"""Certificate and key for `localhost` and 127.0.0.1, made for these tests and trusted by nobody else."""


async def test_port_0_takes_a_free_port(serve, make_app) -> None:
    async with serve(make_app()) as one, serve(make_app()) as other:
        assert one.host == "127.0.0.1"
        assert one.port != other.port != 0
        for serving in (one, other):
            assert serving.url == f"http://127.0.0.1:{serving.port}"
            async with httpx.AsyncClient() as http:
                assert (await http.get(f"{serving.url}/healthz")).status_code == 200


async def test_a_given_socket_is_used(serve, make_app) -> None:
    listener = server.bind("localhost", 0)
    port = listener.getsockname()[1]
    async with serve(make_app(), listener=listener) as serving:
        assert serving.port == port


async def test_a_taken_port_is_told(make_app, serving) -> None:
    with pytest.raises(SettingsError, match=rf"cannot listen on 127.0.0.1:{serving.port}: .*in use; choose another"):
        await server.start(make_app(), port=serving.port)


async def test_an_impossible_port_is_told(make_app) -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on 127\.0\.0\.1:70000"):
        await server.start(make_app(), port=70_000)


async def test_an_unknown_host_is_told(make_app) -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on no\.such\.host\.invalid:0"):
        await server.start(make_app(), host="no.such.host.invalid")


async def test_stopping_answers_who_waits_and_takes_no_more(make_app, registered) -> None:
    serving = await server.start(make_app(), grace=60)
    async with httpx.AsyncClient(base_url=serving.url, timeout=20) as http:
        waiting = asyncio.create_task(http.post("/api/v1/workflows/slow/executions?wait=true&timeout=3000"))
        await registered.until(lambda: "x1" in registered.views)
        async with asyncio.timeout(10):
            await serving.stop()
        response = await waiting
        assert response.status_code == 202
        assert response.json()["status"] == "running"
        with pytest.raises(httpx.ConnectError):
            await http.get("/healthz")
    await serving.stop()
    await serving.wait()


async def test_who_has_no_answer_when_the_time_is_over_is_told_to_ask_another(make_app, registered) -> None:
    serving = await server.start(make_app(), grace=0)
    async with httpx.AsyncClient(base_url=serving.url, timeout=20) as http, registered.changed:  # nothing goes on
        asked = asyncio.create_task(http.post("/api/v1/workflows/greeting/executions"))
        async with asyncio.timeout(10):
            while not registered.views:  # noqa: ASYNC110 - who would tell is what is held up
                await asyncio.sleep(0)
            await serving.stop()
        response = await asked
    assert response.status_code == 503
    assert response.json()["detail"] == "this orchestrator is stopping: try again, or ask another one"


async def test_signals_stay_with_the_process(serve, make_app) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with serve(make_app()):
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_tls_is_spoken(serve, make_app) -> None:
    tls = server.TLS(certificate=CERTIFICATE, key=CERTIFICATE)
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    async with serve(make_app(), tls=tls) as serving, httpx.AsyncClient(verify=trusting) as http:
        assert serving.url.startswith("https://")
        assert (await http.get(f"{serving.url}/healthz")).status_code == 200


async def test_with_a_client_ca_clients_need_a_certificate(serve, make_app) -> None:
    tls = server.TLS(certificate=CERTIFICATE, key=CERTIFICATE, client_ca=CERTIFICATE)
    bare = ssl.create_default_context(cafile=str(CERTIFICATE))
    known = ssl.create_default_context(cafile=str(CERTIFICATE))
    known.load_cert_chain(CERTIFICATE)
    async with serve(make_app(), tls=tls) as serving:
        async with httpx.AsyncClient(verify=known) as http:
            assert (await http.get(f"{serving.url}/healthz")).status_code == 200
        async with httpx.AsyncClient(verify=bare) as http:
            with pytest.raises(httpx.TransportError):
                await http.get(f"{serving.url}/healthz")


@pytest.mark.parametrize(
    ("broken", "content", "message"),
    [
        ("certificate", None, r"cannot read .*certificate\.pem \(HTTP_TLS_CERT\): No such file"),
        ("certificate", "nothing", r"certificate\.pem \(HTTP_TLS_CERT\) holds no certificate in PEM form"),
        ("key", None, r"cannot read .*key\.pem \(HTTP_TLS_KEY\): No such file"),
        ("key", "nothing", r"key\.pem \(HTTP_TLS_KEY\) holds no private key in PEM form"),
        ("client_ca", "nothing", r"client_ca\.pem \(HTTP_TLS_CLIENT_CA\) holds no certificate in PEM form"),
    ],
)
async def test_unusable_tls_files_are_named_with_their_setting(
    make_app, tmp_path: Path, broken: str, content: str | None, message: str
) -> None:
    wrong = tmp_path / f"{broken}.pem"
    if content is not None:
        wrong.write_text(content)
    files = {"certificate": CERTIFICATE, "key": CERTIFICATE, "client_ca": CERTIFICATE, broken: wrong}
    with pytest.raises(SettingsError, match=message):
        await server.start(make_app(), tls=server.TLS(**files))
