"""A shell with kubectl and Helm, as somebody with a kubeconfig has one, in the repository."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from manifests_rendered import ROOT

__all__ = ["Shell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shell:
    """Runs command lines. `tools` has the programs, `home` is where they leave things."""

    home: Path
    kubeconfig: Path
    tools: Path

    async def __call__(self, line: str) -> str:
        """What a command line prints. It must not fail."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", line, cwd=ROOT, env=self._environment(),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(120):
            said, _ = await process.communicate()
        assert process.returncode == 0, f"{line}\n{said.decode()}"
        return said.decode()

    def _environment(self) -> dict[str, str]:
        """Neither a cluster nor a configuration of whoever runs the tests."""
        path = os.pathsep.join([str(self.tools), str(Path(sys.executable).parent), os.environ["PATH"]])
        home = str(self.home)
        return {"PATH": path, "HOME": home, "KUBECONFIG": str(self.kubeconfig), "HELM_CACHE_HOME": home, "TMPDIR": home}
