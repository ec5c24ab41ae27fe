"""A real Docker Engine for tests: the one that answers here, or else one of their own, started as root.

Images cannot be pulled in every place where tests run, so the base image is made from Debian packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PATIENCE = 90.0
"""Seconds that the engine may take to start or to end."""


class DockerEngine:
    """`run(…)` is the `docker` command against it. Raises RuntimeError when there is none, and none can be started."""

    def __init__(self) -> None:
        self._directory: str | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        self.host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        if shutil.which("docker") is None:
            raise RuntimeError("there is no `docker` command: install docker.io (Debian), or Docker")
        if self._fault() is not None:
            self._start()

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which `docker` speaks to it."""
        return {**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0", "DOCKER_CLI_HINTS": "false"}

    def run(
        self, *arguments: object, check: bool = True, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`docker ARGUMENTS`; RuntimeError when it fails, unless `check` is false."""
        done = subprocess.run(
            ["docker", *map(str, arguments)],
            env=self.environment,
            input=stdin.decode() if stdin is not None else None,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"docker {' '.join(map(str, arguments))}: {done.stderr.strip() or done.stdout.strip()}")
        return done

    def close(self) -> None:
        """End it, if it was started here."""
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait(PATIENCE)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _fault(self) -> str | None:
        done = self.run("version", "--format", "{{.Server.Version}}", check=False)
        return done.stderr.strip() if done.returncode else None

    def _start(self) -> None:
        daemon = shutil.which("dockerd")
        if daemon is None or os.geteuid() != 0:
            raise RuntimeError("no Docker Engine answers, and only root can start one: start it, or set DOCKER_HOST")
        self._directory = tempfile.mkdtemp(prefix="dagengine-docker-")
        folder = Path(self._directory)
        self.host = f"unix://{folder}/docker.sock"
        with (folder / "log").open("wb") as log:
            self._daemon = subprocess.Popen(
                [
                    *(daemon, "--host", self.host, "--data-root", str(folder / "data")),
                    *("--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while (fault := self._fault()) is not None:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                told = (folder / "log").read_text(errors="replace")[-2_000:]
                self.close()
                raise RuntimeError(f"dockerd does not start: {fault}\n{told}")
            time.sleep(0.2)  # it tells nobody when it is ready
