"""docs/architecture.md names every room there is and none that is not, and its layers are the enforced ones."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def rooms(package: str) -> set[str]:
    """The packages and the modules that are layers of their own."""
    folders = {path.parent.name for path in (ROOT / package).glob("*/__init__.py")}
    return folders | {layer for layer in layers(package) if (ROOT / package / f"{layer}.py").exists()} - {"errors"}


def layers(package: str) -> list[str]:
    """The rooms of each layer in the import contract, from the top."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [each for each in contracts if each["type"] == "layers" and each["containers"] == [package]]
    return [room for layer in contract["layers"] for room in layer.split(" : ")]


def described(package: str) -> set[str]:
    """The rooms in the page's table of a package."""
    _, _, rest = PAGE.partition(f"| `{package}` | |\n|---|---|\n")
    return set(re.findall(r"^\| `(\w+)` \|", rest.partition("\n\n")[0], re.MULTILINE))


def drawn(package: str) -> list[str]:
    """The rooms in the page's drawing of the layers, from the top."""
    drawing = PAGE.rpartition("```mermaid")[2].partition("```")[0]
    labels = re.findall(rf'{package[0]}\d+\["([^"]+)"\]', drawing)
    return [room for label in labels for room in label.split(" · ")]


@pytest.mark.parametrize("package", ["dagengine", "orchestrator"])
def test_every_room_is_described(package: str) -> None:
    assert described(package) == rooms(package)


@pytest.mark.parametrize("package", ["dagengine", "orchestrator"])
def test_the_layers_are_drawn_as_they_are_enforced(package: str) -> None:
    assert drawn(package) == layers(package)
