"""The overlay `minimal` with images and a namespace of the test's own, as people write it for theirs."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

_ROOT = Path(__file__).parents[2]


def image(name: str, reference: str) -> dict[str, str]:
    """What a kustomization says so that `reference` takes the place of the image `name`."""
    rest, _, digest = reference.partition("@")
    last = rest.rpartition("/")[2]
    tag = last.rpartition(":")[2] if ":" in last else ""
    new = {"name": name, "newName": rest.removesuffix(f":{tag}") if tag else rest}
    return new | ({"digest": digest} if digest else {"newTag": tag or "latest"})


def kustomization(folder: Path, namespace: str, *, engine: str, orchestrator: str) -> Path:
    """Write one into a new folder below `folder`: that folder."""
    made = folder / "minimal"
    made.mkdir()
    overlay = os.path.relpath(_ROOT / "deployments" / "overlays" / "minimal", made.resolve())
    images = [image("dagengine-engine", engine), image("dagengine-orchestrator", orchestrator)]
    said = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    text = yaml.safe_dump(said | {"namespace": namespace, "resources": [overlay], "images": images})
    (made / "kustomization.yaml").write_text(text)
    return made
