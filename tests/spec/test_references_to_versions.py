"""`id@range`: which versions are meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semver import Version

from dagengine.errors import SpecError
from dagengine.spec.reference import VersionRange, WorkflowReference, version_key

NUMBERS = st.integers(0, 4)
PRERELEASES = st.sampled_from(["", "", "", "-0", "-alpha", "-alpha.1", "-rc.1", "-rc.2"])
VERSIONS = st.builds(lambda a, b, c, rest: f"{a}.{b}.{c}{rest}", NUMBERS, NUMBERS, NUMBERS, PRERELEASES)
STABLE = st.builds(lambda a, b, c: f"{a}.{b}.{c}", NUMBERS, NUMBERS, NUMBERS)


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("1.2.3", ["1.2.3", "1.2.3+build"], ["1.2.4", "1.2.3-rc.1"]),
        ("=1.2.3", ["1.2.3"], ["1.2.2"]),
        ("1.2.3+one", ["1.2.3+one"], ["1.2.3", "1.2.3+two"]),
        ("1.2.3-rc.1", ["1.2.3-rc.1"], ["1.2.3", "1.2.3-rc.2"]),
        ("^1", ["1.0.0", "1.9.9"], ["0.9.9", "2.0.0", "2.0.0-alpha", "1.0.0-alpha"]),
        ("^1.2", ["1.2.0", "1.9.0"], ["1.1.9", "2.0.0"]),
        ("^1.2.3", ["1.2.3", "1.3.0"], ["1.2.2", "2.0.0"]),
        ("^0", ["0.0.0", "0.9.9"], ["1.0.0"]),
        ("^0.2", ["0.2.0", "0.2.9"], ["0.1.9", "0.3.0"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.2.2", "0.3.0"]),
        ("^0.0", ["0.0.0", "0.0.9"], ["0.1.0"]),
        ("^0.0.3", ["0.0.3"], ["0.0.2", "0.0.4"]),
        ("^1.2.3-rc.1", ["1.2.3-rc.1", "1.2.3-rc.2", "1.2.3", "1.4.0"], ["1.2.3-beta", "1.3.0-rc.1", "2.0.0-rc.1"]),
        ("~1", ["1.0.0", "1.9.0"], ["2.0.0"]),
        ("~1.2", ["1.2.0", "1.2.9"], ["1.1.0", "1.3.0"]),
        ("~1.2.3", ["1.2.3", "1.2.9"], ["1.2.2", "1.3.0"]),
        ("~0.2.3", ["0.2.4"], ["0.3.0"]),
        ("1", ["1.0.0", "1.9.9"], ["2.0.0", "0.9.0"]),
        ("1.x", ["1.0.0", "1.9.9"], ["2.0.0", "2.0.0-rc.1"]),
        ("1.2.*", ["1.2.0", "1.2.9"], ["1.3.0"]),
        ("1.2", ["1.2.0", "1.2.9"], ["1.3.0"]),
        ("*", ["0.0.0", "9.9.9"], ["1.0.0-rc.1"]),
        ("x", ["0.0.0"], ["1.0.0-rc.1"]),
        (">=1.0 <2.0", ["1.0.0", "1.9.9"], ["0.9.9", "2.0.0", "2.0.0-rc.1"]),
        (">= 1.0  < 2.0", ["1.0.0"], ["2.0.0"]),
        (">1.2", ["1.3.0", "2.0.0"], ["1.2.9", "1.2.0"]),
        (">1.2.3", ["1.2.4"], ["1.2.3"]),
        ("<=1.2", ["1.2.9", "0.1.0"], ["1.3.0"]),
        ("<=1.2.3", ["1.2.3"], ["1.2.4"]),
        ("<1.2", ["1.1.9"], ["1.2.0", "1.2.0-rc.1"]),
        ("^1 || ^3", ["1.5.0", "3.0.0"], ["2.0.0", "4.0.0"]),
        (">*", [], ["0.0.0", "9.9.9"]),
        (">=*", ["0.0.0"], ["1.0.0-rc.1"]),
        ("latest", ["0.0.1", "1.0.0-rc.1"], []),
    ],
)
def test_ranges(text: str, inside: list[str], outside: list[str]) -> None:
    versions = VersionRange.parse(text)
    assert [version for version in inside if not versions.matches(version)] == []
    assert [version for version in outside if versions.matches(version)] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "^1 ||",
        "v1",
        "^",
        "~>1",
        "1.2.3.4",
        "01.0.0",
        "1.0.0-",
        "1.0.0-01",
        "a",
        "1 - 2",
        "^1 ||| 2",
        "==1",
        "1,2",
        "99" * 20,
    ],
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"does not name versions: expected a version such as"):
        VersionRange.parse(text)


def test_latest_prefers_what_is_released() -> None:
    latest = VersionRange.parse("latest")
    assert latest.is_latest
    assert latest.best(["1.0.0", "1.1.0", "2.0.0-rc.1"]) == "1.1.0"
    assert latest.best(["2.0.0-rc.1", "2.0.0-rc.10", "2.0.0-rc.9"]) == "2.0.0-rc.10"
    assert latest.best([]) is None


def test_build_metadata_decide_between_equals_only() -> None:
    assert VersionRange.parse("^1").best(["1.0.0+b", "1.0.0+a", "0.9.0+z"]) == "1.0.0+b"
    assert sorted(["1.0.0+b", "1.0.0", "1.0.0-rc.1", "1.0.0+a"], key=version_key) == [
        "1.0.0-rc.1",
        "1.0.0",
        "1.0.0+a",
        "1.0.0+b",
    ]


def test_what_is_no_version_is_refused() -> None:
    with pytest.raises(SpecError, match=r"'1.0' is not a semantic version"):
        VersionRange.parse("*").matches("1.0")


@pytest.mark.parametrize(
    ("text", "id_", "versions"),
    [
        ("data-pipeline", "data-pipeline", "latest"),
        ("a@1.2.0", "a", "1.2.0"),
        (" a_1@^1 ", "a_1", "^1"),
        ("a@>=1 <2 || 3", "a", ">=1 <2 || 3"),
        ("a@latest", "a", "latest"),
    ],
)
def test_references(text: str, id_: str, versions: str) -> None:
    reference = WorkflowReference.parse(text)
    assert (reference.id, reference.range.text) == (id_, versions)
    assert WorkflowReference.parse(str(reference)) == reference


@pytest.mark.parametrize("text", ["", "@1", "a b", "a/b@1", "a@", "a@ ", "a@b", "a@1@2", "x" * 129])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        WorkflowReference.parse(text)


@given(VERSIONS, st.lists(VERSIONS))
def test_an_exact_version_means_itself(version: str, others: list[str]) -> None:
    assert VersionRange.parse(version).best([*others, version]) == version


@given(STABLE, STABLE)
def test_a_caret_never_crosses_the_first_number_that_is_not_zero(base: str, other: str) -> None:
    low, version = Version.parse(base), Version.parse(other)
    first = next((place for place, number in enumerate(low.to_tuple()[:3]) if number), 2)
    same = low.to_tuple()[: first + 1] == version.to_tuple()[: first + 1]
    assert VersionRange.parse(f"^{base}").matches(other) == (same and version >= low)


@given(STABLE, STABLE)
def test_a_tilde_changes_the_last_number_only(base: str, other: str) -> None:
    low, version = Version.parse(base), Version.parse(other)
    inside = (low.major, low.minor) == (version.major, version.minor) and version >= low
    assert VersionRange.parse(f"~{base}").matches(other) == inside


@given(STABLE, STABLE, VERSIONS)
def test_comparisons_are_those_of_semver(low: str, high: str, version: str) -> None:
    inside = VersionRange.parse(f">={low} <{high}").matches(version)
    parsed = Version.parse(version)
    if parsed.prerelease is None:
        assert inside == (Version.parse(low) <= parsed < Version.parse(high))
    else:
        assert not inside


@given(VERSIONS, VERSIONS)
def test_pre_releases_need_to_be_named(base: str, version: str) -> None:
    numbers = Version.parse(base).to_tuple()[:3]
    parsed = Version.parse(version)
    inside = VersionRange.parse(f">={base}").matches(version)
    named = Version.parse(base).prerelease is not None and numbers == parsed.to_tuple()[:3]
    assert inside == (parsed >= Version.parse(base) and (parsed.prerelease is None or named))


@given(st.sampled_from(["^1", "~1.2", "1.x", "*", ">=1 <3", "^0.1", "latest", "^1.0.0-0 || 2"]), st.lists(VERSIONS))
def test_the_best_is_in_the_range_and_none_in_the_range_is_higher(text: str, versions: list[str]) -> None:
    wanted = VersionRange.parse(text)
    best = wanted.best(versions)
    inside = [version for version in versions if wanted.matches(version)]
    if wanted.is_latest and any("-" not in version for version in inside):
        inside = [version for version in inside if "-" not in version]
    assert best == max(inside, key=version_key, default=None)
