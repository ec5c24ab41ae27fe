"""Install a role from the wheels beside this file into /opt/dagengine: the `build` stage of both images runs it.

It needs Python and nothing else, no shell and no network. Everything it leaves is the same for the same wheels: files
have the time of SOURCE_DATE_EPOCH (`epoch` beside this file), and byte code does not depend on times.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
TARGET = Path("/opt/dagengine")
DATA = Path("/opt/data")
ROLES = {
    "engine": ("dagengine", ("dag-engine",)),
    "orchestrator": ("dagengine[kubernetes,postgres]", ("dag-orchestrator", "dagctl")),
}
NEVER_IMPORTED = (
    "kubernetes/client/api",
    "kubernetes/client/models",
    "kubernetes/aio/client/api",
    "kubernetes/aio/client/models",
    "sqlalchemy/testing",
)
"""Large packages of which nothing here uses a module: typed calls and models of all objects of Kubernetes, say."""
IMPORTED = {
    "engine": "import dagengine.server.process",
    "orchestrator": "import orchestrator.app, psycopg; from kubernetes.aio import client, config; client.ApiClient",
}
"""What must still work without them: a newer version of a library may import more."""


def main(role: str) -> None:
    """Make the environment of `role`."""
    requirement, commands = ROLES[role]
    pip = next(HERE.glob("wheels/pip-*.whl"))
    venv.create(TARGET, with_pip=False, symlinks=True)
    python = TARGET / "bin" / "python3"
    subprocess.run(
        [
            *(python, f"{pip}/pip", "install", "--no-index", "--no-compile", "--disable-pip-version-check"),
            *("--no-cache-dir", "--quiet", "--find-links", HERE / "wheels", requirement),
        ],
        check=True,
    )
    packages = next(TARGET.glob("lib/python3*/site-packages"))
    for folder in NEVER_IMPORTED:
        _empty(packages / folder)
    subprocess.run([python, "-B", "-c", IMPORTED[role]], check=True)
    for path in (TARGET / "bin").iterdir():
        if path.name not in commands and not path.name.startswith("python"):
            path.unlink()
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(packages, quiet=2, invalidation_mode=mode, workers=1, optimize=0)
    DATA.mkdir(exist_ok=True)
    epoch = int((HERE / "epoch").read_text())
    for path in (TARGET, DATA, *TARGET.rglob("*")):
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def _empty(package: Path) -> None:
    """Leave a package its `__init__.py`: others import the package itself, and it imports its modules when asked."""
    for path in package.glob("*"):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "__init__.py":
            path.unlink()


if __name__ == "__main__":
    main(sys.argv[1])
