"""The images as pods of a cluster: they speak with its API with the rights and the users that pods have.

The cluster is the double, at a loopback address: so containers share the network of this machine.
"""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from docker_engine import DockerEngine
from kubernetes_thread import Running, running

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]
HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp:mode=1777")
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
USERS = {"its own": "65532:65532", "one of OpenShift's": "1000770000:0"}
TOKEN = secrets.token_urlsafe(32)

Pod = Callable[..., str]


@pytest.fixture
def cluster() -> Iterator[Running]:
    """A cluster that lets pods do what the manifests say, and no more."""
    with running() as server:
        server.do(lambda api: api.authorize(ROOT / "deployments" / "orchestrator-deployment.yaml"))
        yield server


@pytest.fixture
def pod(docker: DockerEngine, cluster: Running, tmp_path: Path) -> Iterator[Pod]:
    """`pod(account, user, image, *arguments, options=(), **environment)` runs a container as the kubelet would."""
    made: list[str] = []

    def run(account: str, user: str, *arguments: str, options: tuple[str, ...] = (), **environment: str) -> str:
        folder = tmp_path / account
        if not folder.exists():
            shutil.copytree(cluster.do(lambda api: api.service_account(account)), folder)
            for path in (folder, *folder.iterdir()):
                path.chmod(0o755)
        around = {**cluster.do(lambda api: api.in_cluster), **environment}
        made.append(f"dagengine-{secrets.token_hex(4)}")
        docker.run(
            *("run", "--detach", "--name", made[-1], "--network", "host", "--user", user, *HARDENED),
            *("--volume", f"{folder}:{ACCOUNT}:ro"),
            *(part for name, value in around.items() for part in ("--env", f"{name}={value}")),
            *(*options, *arguments),
        )
        return made[-1]

    yield run
    for name in made:
        docker.run("rm", "--force", "--volumes", name)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("user", USERS.values(), ids=USERS.keys())
def test_the_job_makes_the_token_once(
    user: str, docker: DockerEngine, images: dict[str, str], cluster: Running, pod: Pod
) -> None:
    kept: list[object] = []
    for told in ("there is a new token in it", "it is there already"):
        job = pod(
            *("workflow-token", user, images["orchestrator"], "token", "--secret", "workflow-token"),
            options=("--entrypoint", "dagctl"),
        )
        ended = docker.run("wait", job).stdout.strip()
        said = docker.run("logs", job)
        assert (ended, told in said.stdout) == ("0", True), said.stdout + said.stderr
        kept.append(cluster.do(lambda api: api.get("secrets", "workflow-token")["data"]["token"]))
    assert kept[0] == kept[1]


@pytest.mark.parametrize("user", USERS.values(), ids=USERS.keys())
def test_an_orchestrator_finds_the_engine_in_its_pod(
    user: str, docker: DockerEngine, images: dict[str, str], cluster: Running, pod: Pod
) -> None:
    port, http_port = free_port(), free_port()
    options = ("--env", f"DAGENGINE_TOKEN={TOKEN}", "--env", "HOST=127.0.0.1")
    pod("workflow-engine", user, images["engine"], options=options, PORT=str(port), ENGINE_ID="engine-1")
    cluster.do(
        lambda api: api.run_pod(
            "engine-1", ip="127.0.0.1", labels={"app": "workflow-engine"},
            annotations={"workflow-engine/port": str(port)},
        )
    )  # fmt: skip
    orchestrator = pod(
        *("workflow-orchestrator", user, images["orchestrator"]),
        options=options,
        DATABASE_URL="sqlite:////tmp/dagengine.db",
        HTTP_PORT=str(http_port),
        ENGINE_DISCOVERY="pods",
    )

    def engines() -> dict[str, str]:
        asked = ("exec", "--env", f"DAGCTL_SERVER=http://127.0.0.1:{http_port}", orchestrator)
        done = docker.run(*asked, "dagctl", "get", "engines", "-o", "json", check=False)
        return {each["id"]: each["state"] for each in json.loads(done.stdout)} if done.returncode == 0 else {}

    deadline = time.monotonic() + 120
    while (found := engines()) != {"engine-1": "ready"}:
        assert time.monotonic() < deadline, (found, docker.run("logs", orchestrator).stderr[-4000:])
        time.sleep(0.5)  # nobody tells when it has found it
