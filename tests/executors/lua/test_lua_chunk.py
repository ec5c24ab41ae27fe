"""What code may read of its scope, and what a runtime keeps."""

from __future__ import annotations

import pytest

from dagengine.executors.lua.cache import Generations
from dagengine.executors.lua.chunk import MOST_NAMED_NODES, Reads, reads


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("return {value = 1}", Reads()),
        ("return 'nodes.a' -- nodes", Reads()),
        ("return 'inputs' -- item", Reads(inputs=True, item=True)),
        ("return inputs.x", Reads(inputs=True)),
        ("return env.X, item, index", Reads(env=True, item=True, index=True)),
        ("local item = item", Reads(item=True)),
        ("return math.random()", Reads(randomness=True)),
        ("return os.time()", Reads(time=True)),
        ("return nodes.a.v + nodes['b-c']", Reads(nodes=("a", "b-c"))),
        ("local n = nodes return n.a", Reads(nodes=None)),
        ("return nodes[inputs.x]", Reads(inputs=True, nodes=None)),
        ("for id in pairs(nodes) do end", Reads(nodes=None)),
    ],
)
def test_only_what_code_mentions_is_read_and_words_of_texts_and_comments_count(code, expected):
    assert reads([code]) == expected


@pytest.mark.parametrize(
    "code",
    ["return _ENV['inp' .. 'uts']", "return _G.nodes", 'local s = "a\\z\n b" return inputs', "-- c\rreturn inputs"],
)
def test_code_that_may_reach_anything_gets_everything(code):
    found = reads([code])
    assert found.inputs
    assert found.env
    assert found.item
    assert found.index
    assert found.randomness
    assert found.time
    assert found.nodes is None


def test_pieces_of_code_are_taken_together():
    assert reads(["nodes.b", "nodes.a + inputs.x"]) == Reads(inputs=True, nodes=("a", "b"))


def test_code_that_names_very_many_nodes_gets_all():
    assert reads([f"nodes.n{i}" for i in range(MOST_NAMED_NODES + 1)]).nodes is None


def test_what_is_used_stays_and_what_is_not_goes():
    cache: Generations[str, int] = Generations(2)
    dropped = []
    for n in range(20):
        dropped += cache.rotate()
        assert cache.get("used") == (0 if n else None)
        if n == 0:
            cache.put("used", 0)
        cache.put(f"k{n}", n)
    assert cache.get("used") == 0
    assert cache.get("k0") is None
    assert cache.get("k19") == 19
    assert 0 in dropped


def test_an_entry_bigger_than_the_cache_stays_until_the_next_rotations():
    cache: Generations[str, str] = Generations(10)
    cache.put("big", "value", 1000)
    assert cache.rotate() == []
    assert cache.get("big") == "value"


def test_code_is_compiled_once_and_its_errors_are_kept(lua):
    runtime = lua.runtime
    assert runtime.script("return 1") is runtime.script("return 1")
    assert runtime.script("x = = 1") is runtime.script("x = = 1")


def test_very_many_different_scripts_do_not_fill_the_memory(lua):
    lua.max_memory = 16 << 20
    runtime = lua.runtime
    for i in range(5_000):
        assert lua.value(f"local t = {{}} for i = 1, 3 do t[i] = i + {i} end return t[3]") == 3 + i
    assert lua.runtime is runtime


def test_very_many_big_values_do_not_fill_the_memory(lua):
    lua.max_memory = 32 << 20
    runtime = lua.runtime
    for i in range(300):
        value = {"rows": [{"n": n, "text": "x" * 20} for n in range(i, i + 500)]}
        assert lua.value("return nodes.a.rows[1].n + #nodes.a.rows", nodes={"a": value}) == i + 500
    assert lua.runtime is runtime
