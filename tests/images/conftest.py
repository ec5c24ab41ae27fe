"""A Docker Engine, and the images built on it once for all tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from docker_engine import DockerEngine

ROOT = Path(__file__).parents[2]
TAG = "under-test"
BASE = "dagengine-base:under-test"


@pytest.fixture(scope="session")
def docker() -> Iterator[DockerEngine]:
    """A real Docker Engine."""
    engine = DockerEngine()
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def base(docker: DockerEngine) -> str:
    """A base image without a shell, made from packages."""
    _script(docker, "make_base_image.py", BASE)
    return BASE


@pytest.fixture(scope="session")
def images(docker: DockerEngine, base: str) -> dict[str, str]:
    """The names of both images, by role."""
    said = _script(docker, "build_images.py", "--base", base, "--tag", TAG)
    assert "MB" in said
    return {role: f"dagengine-{role}:{TAG}" for role in ("engine", "orchestrator")}


@pytest.fixture(scope="session")
def built_again(docker: DockerEngine, base: str) -> str:
    """The engine's image, built once more from nothing."""
    _script(docker, "build_images.py", "--base", base, "--tag", f"{TAG}-again", "--role", "engine", "--no-cache")
    return f"dagengine-engine:{TAG}-again"


def _script(docker: DockerEngine, name: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "scripts" / name), *arguments]
    done = subprocess.run(command, env=docker.environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
