"""Generate `dagengine/wire/v1` from `proto/`: what `make proto` runs. It changes nothing when nothing has changed.

The compiler is pinned to the oldest one that works, because generated code refuses runtimes older than its own
compiler. It lives in a virtual environment of its own (`.venv-proto`), made at the first run.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "proto"
ENVIRONMENT = ROOT / ".venv-proto"
COMPILER = "1.71.2"
# The compiler imports pkg_resources, which setuptools dropped in its version 81.
REQUIREMENTS = (f"grpcio-tools=={COMPILER}", "setuptools<81")


def environment() -> Path:
    """The Python of the compiler's virtual environment, made when it is missing or holds another compiler."""
    python = ENVIRONMENT / "bin" / "python"
    probe = "from importlib.metadata import version; print(version('grpcio-tools'))"
    if python.exists():
        found = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False)
        if found.stdout.strip() == COMPILER:
            return python
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
    return python


def compile_into(python: Path, target: Path) -> None:
    """Run the compiler over every source below `proto/`."""
    sources = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.proto"))
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run(
        [python, "-W", "ignore", "-m", "grpc_tools.protoc", f"--proto_path={SOURCE}", *outputs, *sources],
        check=True,
    )


def install(generated: Path) -> list[Path]:
    """Copy what differs into the source tree; the paths that were written."""
    written = []
    for path in sorted(generated.rglob("*.py*")):
        target = ROOT / path.relative_to(generated)
        content = path.read_bytes()
        if not target.exists() or target.read_bytes() != content:
            target.write_bytes(content)
            written.append(target)
    return written


def main() -> int:
    """Generate; exit 0. With `--check`, exit 1 when something was out of date (it is up to date afterwards)."""
    with tempfile.TemporaryDirectory() as folder:
        compile_into(environment(), Path(folder))
        written = install(Path(folder))
    for path in written:
        print(f"wrote {path.relative_to(ROOT)}")
    return 1 if written and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
