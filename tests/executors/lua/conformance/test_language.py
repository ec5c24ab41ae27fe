"""What the sandbox keeps of Lua 5.5: each `.lua` file here is a chunk that returns, by name, what expressions came to.

The `.json` file beside it holds what the manual says they come to; `REWRITE=1` in the environment writes it anew, to be
read before it is believed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHUNKS = sorted(path.stem for path in HERE.glob("*.lua"))


def expected(chunk: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((HERE / f"{chunk}.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def results() -> dict[str, object]:
    """What each chunk returned, by its name."""
    return {}


def returned(chunk: str, lua, results):
    if chunk not in results:
        lua.max_memory = 256 << 20
        results[chunk] = lua.value((HERE / f"{chunk}.lua").read_text(), run={"seed": 1})
    return results[chunk]


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_chunk_asserts_what_is_expected_and_nothing_else(chunk, lua, results):
    came = returned(chunk, lua, results)
    if os.environ.get("REWRITE"):
        lines = [
            f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(came.items())
        ]
        (HERE / f"{chunk}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    assert set(came) == set(expected(chunk))


@pytest.mark.parametrize(
    ("chunk", "name"),
    [
        pytest.param(chunk, name, id=f"{chunk}: {name}")
        for chunk in CHUNKS
        if (HERE / f"{chunk}.json").exists()
        for name in expected(chunk)
    ],
)
def test_lua_does_what_its_manual_says(chunk, name, lua, results):
    came, wanted = returned(chunk, lua, results)[name], expected(chunk)[name]
    assert json.dumps(came) == json.dumps(wanted)  # 1 and 1.0 are not the same here
