"""Checks of single values that need more than a pattern: version, time zone, path of the HTTP trigger, secrets.

Called by `document`. Whether a cron schedule can be read is checked by the layer that owns the cron library.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator

import semver

from dagengine.spec.outline import Outline
from dagengine.spec.path import Finding
from dagengine.spec.plain import show
from dagengine.spec.suggestion import did_you_mean

__all__ = ["findings"]


def findings(outline: Outline) -> Iterator[Finding]:
    """What is wrong with these values."""
    version = outline.version
    if isinstance(version, str) and not semver.Version.is_valid(version):
        yield Finding(("metadata", "version"), _not_a_version(version))
    timezone = outline.cron.get("timezone")
    if isinstance(timezone, str) and not _is_timezone(timezone):
        hint = did_you_mean(timezone, zoneinfo.available_timezones())
        yield Finding(("spec", "triggers", "cron", "timezone"), f"unknown time zone {show(timezone)}{hint}")
    path = outline.http.get("path")
    if isinstance(path, str) and path.startswith("/") and any(step in ("", ".", "..") for step in path.split("/")[1:]):
        message = f"{show(path)} has an empty step, '.' or '..' in it"
        yield Finding(("spec", "triggers", "http", "path"), message)
    secrets = outline.secrets or ()
    for place, name in enumerate(secrets):
        if isinstance(name, str) and name in secrets[:place]:
            yield Finding(("spec", "configuration", "secrets", place), f"{name!r} is listed twice")


def _not_a_version(text: str) -> str:
    parts = text.removeprefix("v").split(".")
    hint = ""
    if len(parts) <= 3 and all(part.isdecimal() for part in parts):
        padded = ".".join(str(int(part)) for part in (*parts, "0", "0")[:3])
        hint = f"; did you mean '{padded}'?"
    return f"{show(text)} is not a semantic version such as 1.0.0{hint}"


def _is_timezone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
