"""Build the images of the engine and of the orchestrator; `make images` runs this.

The wheels are made and fetched here, for the Python of the base image, at the versions of
deployments/images/constraints.txt (`--lock` writes it anew). The build itself needs no network.

    python scripts/build_images.py                                  # dagengine-engine, dagengine-orchestrator
    python scripts/build_images.py --base my/python:3.12 --tag 1.2.3 --prefix registry.example.org/team/
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "deployments" / "images"
CONSTRAINTS = IMAGES / "constraints.txt"
ROLES = ("engine", "orchestrator")
REQUIREMENT = "dagengine[kubernetes,postgres]"
PROBE = "import platform, sys; print('%d.%d' % sys.version_info[:2], platform.machine(), platform.libc_ver()[0])"


class BuildError(Exception):
    """The images cannot be built; the message says why."""


def main() -> int:
    """Parse the command line, build, and tell the sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="python:3.13-slim", help="image with Python >= 3.11 [%(default)s]")
    parser.add_argument("--tag", default=_version(), help="tag of the images [%(default)s]")
    parser.add_argument("--prefix", default="", help="what comes before the images' names, with its last slash")
    parser.add_argument("--role", choices=ROLES, action="append", help="build this one only; repeatable")
    parser.add_argument("--no-cache", action="store_true", help="build every step anew")
    parser.add_argument("--lock", action="store_true", help="write constraints.txt anew, from what is newest; no build")
    options = parser.parse_args()
    try:
        if options.lock:
            _lock()
            return 0
        with tempfile.TemporaryDirectory(prefix="dagengine-images-") as folder:
            _gather(Path(folder), options.base)
            for role in options.role or ROLES:
                name = f"{options.prefix}dagengine-{role}:{options.tag}"
                _build(Path(folder), role, name, options)
                print(f"{name}  {_size(name) / 1e6:.0f} MB, of which {_size(options.base) / 1e6:.0f} MB are the base's")
    except BuildError as error:
        print(f"make images: {error}", file=sys.stderr)
        return 1
    return 0


def _version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def _gather(folder: Path, base: str) -> None:
    """Fill the context of the build: wheels of everything, and the script that installs them."""
    python, machine, libc = _probe(base)
    wheels = folder / "wheels"
    epoch = _output("git", "-C", ROOT, "log", "-1", "--format=%ct") if (ROOT / ".git").exists() else "315532800"
    (folder / "epoch").write_text(epoch)
    print(f"gathering wheels for Python {python} on {machine} ({libc}) ...", flush=True)
    _pip("wheel", "--no-deps", "--wheel-dir", wheels, ROOT, epoch=epoch)
    platforms = [f"manylinux{tag}_{machine}" for tag in ("_2_28", "_2_17", "2014")]
    _pip(
        *("download", "--only-binary=:all:", "--dest", wheels, "--python-version", python, "--find-links", wheels),
        *("--constraint", CONSTRAINTS),
        *(part for platform in platforms for part in ("--platform", platform)),
        *(REQUIREMENT, "pip"),
        epoch=epoch,
    )
    shutil.copy(IMAGES / "install.py", folder)


def _probe(base: str) -> tuple[str, str, str]:
    """The Python of the base image, its machine, and its C library."""
    said = _output("docker", "run", "--rm", "--network", "none", "--entrypoint", "python3", base, "-c", PROBE)
    python, machine, *libc = said.split()
    if libc != ["glibc"]:
        raise BuildError(f"{base} has no glibc: take a base image that has, such as one on Debian")
    if tuple(map(int, python.split("."))) < (3, 11):
        raise BuildError(f"{base} has Python {python}: 3.11 or newer is needed")
    return python, machine, libc[0]


def _build(folder: Path, role: str, name: str, options: argparse.Namespace) -> None:
    revision = _output("git", "-C", ROOT, "rev-parse", "HEAD") if (ROOT / ".git").exists() else ""
    arguments = {"BASE_IMAGE": options.base, "VERSION": _version(), "REVISION": revision}
    _run(
        *("docker", "build", "--quiet", "--network", "none", "--tag", name, "--file", ROOT / f"Dockerfile.{role}"),
        *(("--no-cache",) if options.no_cache else ()),
        *(part for key, value in arguments.items() for part in ("--build-arg", f"{key}={value}")),
        folder,
    )


def _size(image: str) -> int:
    return int(json.loads(_output("docker", "image", "inspect", image))[0]["Size"])


def _lock() -> None:
    """Resolve anew, with nothing held back, and write down what came out."""
    report = json.loads(
        _output(
            *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"),
            *(f"{ROOT}[kubernetes,postgres]", "pip"),
        )
    )
    names = sorted((item["metadata"]["name"].lower(), item["metadata"]["version"]) for item in report["install"])
    head = "# The versions that images are built from. Written by: python scripts/build_images.py --lock\n"
    lines = [f"{name}=={number}\n" for name, number in names if name != "dagengine"]
    CONSTRAINTS.write_text(head + "".join(lines))


def _pip(*arguments: object, epoch: str) -> None:
    command = (sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check")
    _run(*command, environment={"SOURCE_DATE_EPOCH": epoch})


def _run(*command: object, environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, "DOCKER_BUILDKIT": os.environ.get("DOCKER_BUILDKIT", "0"), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is not installed") from error
    if done.returncode:
        raise BuildError(f"{' '.join(map(str, command[:3]))} ... failed:\n{done.stdout.strip()}")


def _output(*command: object) -> str:
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is not installed") from error
    if done.returncode:
        raise BuildError(f"{' '.join(map(str, command[:3]))} ... failed:\n{done.stderr.strip()}")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
