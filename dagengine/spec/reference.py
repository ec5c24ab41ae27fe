"""How people say which version of a workflow they mean: `data-pipeline`, `id@1.2.0`, `id@^1`, `id@latest`.

Ranges are npm's, on top of the semver library, which has none:

=================  =====================================================
`1.2.3`            exactly that version
`^1.2`             at least 1.2.0, and nothing that may break: below 2.0.0 (`^0.2` is below 0.3.0)
`~1.2`             at least 1.2.0 and below 1.3.0 (`~1` is below 2.0.0)
`1.x` `1.2.*` `1`  any version with these first numbers
`>=1.0 <2.0`       all of several comparisons (`>` `>=` `<` `<=` `=`)
`^1 || ^3`         one of several ranges
`*`                any version
`latest`           the highest version; a pre-release only if there is nothing else
=================  =====================================================

A pre-release (`2.0.0-rc.1`) is in a range only if the range names a pre-release of the same three numbers. Used by the
registry, the command line and the client.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from semver import Version

from dagengine.errors import SpecError

__all__ = ["LATEST", "VersionRange", "WorkflowReference", "version_key"]

LATEST: Final = "latest"

_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_NUMBER: Final = r"(?:0|[1-9]\d{0,15}|[xX*])"
_COMPARATOR: Final = re.compile(
    rf"(?P<op>\^|~|>=|<=|>|<|=)?\s*(?P<major>{_NUMBER})(?:\.(?P<minor>{_NUMBER})(?:\.(?P<patch>{_NUMBER})"
    r"(?P<rest>(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?))?)?(?:\s+|$)",
    re.ASCII,
)
_FORMS: Final = "a version such as 1.2.0, a range such as ^1, ^1.2, ~1.2, 1.x, '>=1.0 <2.0' or *, or latest"
_WILD: Final = ("x", "X", "*")


@dataclass(frozen=True, slots=True)
class _Bound:
    """One comparison with one version."""

    op: str
    version: Version

    def holds(self, version: Version) -> bool:
        order = version.compare(self.version)
        match self.op:
            case ">=":
                return order >= 0
            case ">":
                return order > 0
            case "<":
                return order < 0
            case "<=":
                return order <= 0
        return order == 0 and self.version.build in (None, version.build)


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Which versions are meant. Made by `parse`; `text` is how it was written."""

    text: str
    _alternatives: tuple[tuple[_Bound, ...], ...]

    @staticmethod
    def parse(text: str) -> VersionRange:
        """The range that `text` says. Raises SpecError when it says none."""
        return _parse(text.strip())

    @property
    def is_latest(self) -> bool:
        return self.text == LATEST

    def matches(self, version: str) -> bool:
        """Whether `version` is in the range. `latest` takes any: which one it means depends on what there is."""
        return self._contains(_version(version))

    def best(self, versions: Iterable[str]) -> str | None:
        """The highest of `versions` that is in the range, or None."""
        inside = [(key, text) for text in versions if self._contains((key := version_key(text))[0])]
        if self.is_latest and any(key[0].prerelease is None for key, _ in inside):
            inside = [(key, text) for key, text in inside if key[0].prerelease is None]
        return max(inside)[1] if inside else None

    def _contains(self, version: Version) -> bool:
        if self.is_latest:
            return True
        return any(_fits(version, bounds) for bounds in self._alternatives)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class WorkflowReference:
    """A workflow and the versions of it that are meant."""

    id: str
    range: VersionRange

    @staticmethod
    def parse(text: str) -> WorkflowReference:
        """`id` or `id@range`; without a range the latest version is meant. Raises SpecError when it is neither."""
        name, at, versions = text.strip().partition("@")
        if not _ID.fullmatch(name):
            raise SpecError(
                f"{text!r} is not a workflow: expected an id of letters, digits, '-' and '_', or id@version"
            )
        if at and not versions.strip():
            raise SpecError(f"{text!r} has nothing after its '@': expected {_FORMS}")
        return WorkflowReference(name, VersionRange.parse(versions if at else LATEST))

    def __str__(self) -> str:
        return f"{self.id}@{self.range}"


def version_key(version: str) -> tuple[Version, str]:
    """Sorts versions by precedence; build metadata, which has none, decides only between equals.

    Raises SpecError when `version` is not a semantic version.
    """
    return _version(version), version


@lru_cache(maxsize=4096)
def _version(text: str) -> Version:
    try:
        return Version.parse(text)
    except ValueError as exc:
        raise SpecError(f"{text!r} is not a semantic version such as 1.0.0") from exc


def _fits(version: Version, bounds: tuple[_Bound, ...]) -> bool:
    if not all(bound.holds(version) for bound in bounds):
        return False
    if version.prerelease is None:
        return True
    numbers = version.to_tuple()[:3]
    return any(bound.version.prerelease is not None and bound.version.to_tuple()[:3] == numbers for bound in bounds)


@lru_cache(maxsize=1024)
def _parse(text: str) -> VersionRange:
    if text == LATEST:
        return VersionRange(text, ())
    return VersionRange(text, tuple(_alternative(part.strip(), text) for part in text.split("||")))


def _alternative(part: str, whole: str) -> tuple[_Bound, ...]:
    bounds: list[_Bound] = []
    position = 0
    while position < len(part) or not part:
        match = _COMPARATOR.match(part, position)
        if match is None:
            raise SpecError(f"{whole!r} does not name versions: expected {_FORMS}")
        try:
            bounds.extend(_bounds(match))
        except ValueError as exc:
            raise SpecError(f"{whole!r} does not name versions: expected {_FORMS}") from exc
        position = match.end()
    return tuple(bounds)


def _bounds(match: re.Match[str]) -> list[_Bound]:
    """The comparisons that one comparator stands for."""
    op = match["op"] or "="
    numbers = [int(part) for part in _until_wild((match["major"], match["minor"], match["patch"]))]
    rest = match["rest"] if len(numbers) == 3 else ""
    if not numbers:
        return [_Bound("<", Version(0, 0, 0, "0"))] if op in ("<", ">") else []
    low = Version.parse(".".join(map(str, (*numbers, 0, 0)[:3])) + (rest or ""))
    if op in ("^", "~") or (op == "=" and len(numbers) < 3):
        return [_Bound(">=", low), _Bound("<", _ceiling(numbers, _kept(op, numbers)))]
    if len(numbers) == 3:
        return [_Bound(op, low)]
    after = _ceiling(numbers, len(numbers))
    return {
        ">": lambda: [_Bound(">=", Version(*after.to_tuple()[:3]))],
        ">=": lambda: [_Bound(">=", low)],
        "<": lambda: [_Bound("<", low.replace(prerelease="0"))],
        "<=": lambda: [_Bound("<", after)],
    }[op]()


def _until_wild(parts: Iterable[str | None]) -> list[str]:
    kept: list[str] = []
    for part in parts:
        if part is None or part in _WILD:
            break
        kept.append(part)
    return kept


def _kept(op: str, numbers: list[int]) -> int:
    """How many of the first numbers must stay as they are."""
    if op == "=":
        return len(numbers)
    if op == "~":
        return min(2, len(numbers))
    first = next((place for place, number in enumerate(numbers) if number), len(numbers) - 1)
    return first + 1


def _ceiling(numbers: list[int], kept: int) -> Version:
    """The first version, pre-releases included, whose first `kept` numbers are higher."""
    major, minor, patch = [*numbers[: kept - 1], numbers[kept - 1] + 1, 0, 0][:3]
    return Version(major, minor, patch, prerelease="0")
