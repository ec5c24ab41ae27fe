"""The images on a real Docker Engine: what is in them, how they start, and the main job in containers alone."""

from __future__ import annotations

import csv
import hashlib
import json
import secrets
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_engine import DockerEngine

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "01-weather"
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp:mode=1777")

Start = Callable[..., str]


@pytest.fixture
def network(docker: DockerEngine) -> Iterator[str]:
    """A network for the containers of a test."""
    name = f"dagengine-{secrets.token_hex(4)}"
    docker.run("network", "create", "--internal", name)
    yield name
    docker.run("network", "rm", name)


@pytest.fixture
def start(docker: DockerEngine, network: str) -> Iterator[Start]:
    """`start(name, image, *arguments, **environment)` runs a container, as Kubernetes would let it run at most."""
    names: list[str] = []

    def run(name: str, image: str, *arguments: str, options: tuple[str, ...] = (), **environment: str) -> str:
        names.append(f"{network}-{name}")
        variables = [part for key, value in environment.items() for part in ("--env", f"{key}={value}")]
        docker.run(
            *("run", "--detach", "--name", names[-1], "--network", network, "--network-alias", name, *HARDENED),
            *(*variables, *options, image, *arguments),
        )
        return names[-1]

    yield run
    for name in names:
        docker.run("rm", "--force", "--volumes", name)


def until_healthy(docker: DockerEngine, container: str) -> None:
    deadline = time.monotonic() + 120
    while (state := inspect(docker, container)["State"])["Health"]["Status"] != "healthy":
        assert state["Running"], docker.run("logs", container).stderr
        assert time.monotonic() < deadline, state["Health"]
        time.sleep(0.2)  # the engine tells nobody


def inspect(docker: DockerEngine, what: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker.run("inspect", what).stdout)[0]
    return found


def files(docker: DockerEngine, image: str, path: Path) -> dict[str, tuple[int, int, str]]:
    """Every file that an image adds: its mode, its time, and a digest of what is in it."""
    container = docker.run("create", image).stdout.strip()
    docker.run("export", "--output", path, container)
    docker.run("rm", container)
    found: dict[str, tuple[int, int, str]] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if member.name.startswith("opt/dagengine/") and not member.isdir():
                stream = archive.extractfile(member) if member.isreg() else None
                content = stream.read() if stream is not None else member.linkname.encode()
                found[member.name] = (member.mode, int(member.mtime), hashlib.sha256(content).hexdigest())
    path.unlink()
    return found


def test_there_is_no_shell_in_them_and_they_do_not_run_as_root(docker: DockerEngine, images: dict[str, str]) -> None:
    for role, image in images.items():
        shell = docker.run("run", "--rm", "--entrypoint", "/bin/sh", image, "-c", "true", check=False)
        assert shell.returncode == 127
        config = inspect(docker, image)["Config"]
        assert config["User"] == "65532:65532"
        assert config["StopSignal"] == "SIGTERM"
        assert config["Healthcheck"]["Test"] == ["CMD", f"dag-{role}", "--healthcheck"]
        assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
        assert config["Labels"]["org.opencontainers.image.version"]


def test_they_stay_small(docker: DockerEngine, base: str, images: dict[str, str]) -> None:
    own = {role: inspect(docker, image)["Size"] - inspect(docker, base)["Size"] for role, image in images.items()}
    assert own["engine"] < 160e6
    assert own["orchestrator"] < 190e6


def test_the_same_wheels_make_the_same_files(
    docker: DockerEngine, images: dict[str, str], built_again: str, tmp_path: Path
) -> None:
    first = files(docker, images["engine"], tmp_path / "first.tar")
    second = files(docker, built_again, tmp_path / "second.tar")
    assert len(first) > 1_000
    assert {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)} == set()


def test_without_a_token_an_engine_tells_what_is_missing(docker: DockerEngine, images: dict[str, str]) -> None:
    done = docker.run("run", "--rm", *HARDENED, images["engine"], check=False)
    assert done.returncode == 2
    assert "refusing to listen on 0.0.0.0" in done.stderr
    assert "DAGENGINE_TOKEN" in done.stderr


def test_the_main_job_runs_in_containers_alone(docker: DockerEngine, images: dict[str, str], start: Start) -> None:
    token = secrets.token_urlsafe(32)
    engines = [
        start(name, images["engine"], ENGINE_ID=name, DAGENGINE_TOKEN=token) for name in ("engine-1", "engine-2")
    ]
    orchestrator = start(
        "orchestrator",
        images["orchestrator"],
        options=("--volume", "/data"),
        ENGINES="engine-1:50051,engine-2:50051",
        ALLOWED_HOSTS="orchestrator",
        DAGENGINE_TOKEN=token,
    )
    for container in (*engines, orchestrator):
        until_healthy(docker, container)

    def dagctl(*arguments: str) -> str:
        return docker.run(
            *("run", "--rm", "--network", inspect(docker, orchestrator)["HostConfig"]["NetworkMode"], *HARDENED),
            *("--volume", f"{EXAMPLE}:/job:ro", "--env", f"DAGENGINE_TOKEN={token}"),
            *("--env", "DAGCTL_SERVER=http://orchestrator:8080", "--entrypoint", "dagctl", images["orchestrator"]),
            *arguments,
        ).stdout

    dagctl("apply", "-f", "/job/workflow.yaml")
    data = "data=@/job/seattle-weather.csv"
    ended = json.loads(dagctl("start", "seattle-weather", "-i", data, "--wait", "-o", "json"))
    assert ended["status"] == "succeeded"
    with (EXAMPLE / "seattle-weather.csv").open() as source:
        days = [row for row in csv.DictReader(source) if row["date"].startswith("2014/")]
    wet = sum(float(row["precipitation"]) for row in days)
    assert f"2014   {wet:.1f}" in ended["outputs"]["report"]

    for container in (orchestrator, *engines):
        docker.run("stop", "--time", "40", container)
        assert inspect(docker, container)["State"]["ExitCode"] == 0
