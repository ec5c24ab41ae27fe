"""The consistent-hash ring."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from orchestrator.dispatcher.ring import POINTS_PER_ENGINE, Ring

KEYS = [f"workflow-{number}@1.{number % 7}.0" for number in range(10_000)]
FAMILIES = ["engine-{}", "10.1.2.{}:50051", "workflow-engine-7d9f8c-{}x"]


def _engines(family: str, count: int) -> list[str]:
    return [family.format(number) for number in range(count)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", range(2, 21))
def test_removing_any_of_n_engines_moves_its_own_keys_only_and_at_most_1_3_of_n(family: str, count: int) -> None:
    ring = Ring(_engines(family, count))
    homes = [next(ring.walk(key)) for key in KEYS]
    share = Counter(homes)
    assert max(share.values()) <= 1.3 / count * len(KEYS)
    gone = _engines(family, count)[count // 2]
    smaller = ring.with_engines(ring.engines - {gone})
    moved = [before for before, key in zip(homes, KEYS, strict=True) if next(smaller.walk(key)) != before]
    assert moved == [gone] * share[gone]


@pytest.mark.parametrize("family", FAMILIES)
def test_adding_one_of_n_engines_moves_keys_to_it_only_and_at_most_1_3_of_n(family: str) -> None:
    ring = Ring(_engines(family, 1))
    homes = [next(ring.walk(key)) for key in KEYS]
    for count in range(2, 21):
        ring = ring.with_engines(_engines(family, count))
        after = [next(ring.walk(key)) for key in KEYS]
        moved = [new for old, new in zip(homes, after, strict=True) if old != new]
        assert set(moved) == {family.format(count - 1)}
        assert len(moved) <= 1.3 / count * len(KEYS)
        homes = after


def test_the_order_in_which_engines_come_does_not_matter() -> None:
    engines = _engines("engine-{}", 4)
    expected = [next(Ring(engines).walk(key)) for key in KEYS[:500]]
    for order in itertools.permutations(engines):
        ring = Ring(["gone"])
        for known in range(1, 5):
            ring = ring.with_engines(order[:known])
        assert [next(ring.walk(key)) for key in KEYS[:500]] == expected


@pytest.mark.parametrize("seed", range(3))
def test_a_ring_that_engines_came_to_and_left_is_that_of_those_who_are_there(seed: int) -> None:
    chance, ring, names = random.Random(seed), Ring(), _engines("engine-{}", 12)
    for _ in range(25):
        there = chance.sample(names, chance.randrange(len(names) + 1))
        ring, fresh = ring.with_engines(there), Ring(there)
        assert ring.engines == fresh.engines == set(there)
        assert list(ring.walk("a key")) == list(fresh.walk("a key"))


def test_the_ring_is_kept_while_the_engines_are_the_same() -> None:
    ring = Ring(["a", "b"])
    assert ring.with_engines(["b", "a"]) is ring
    assert ring.with_engines(["b"]) is not ring


def test_a_walk_passes_every_point_once_around() -> None:
    ring = Ring(_engines("engine-{}", 5))
    for key in KEYS[:50]:
        owners = list(ring.walk(key))
        assert set(owners) == ring.engines
        assert set(Counter(owners).values()) == {POINTS_PER_ENGINE}


def test_an_empty_ring_has_no_home() -> None:
    assert list(Ring().walk("a@1.0.0")) == []
