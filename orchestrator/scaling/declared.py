"""What somebody has said about scaling: how many engines there may be, for how much work, and which workload has them.

Read from settings (`ENGINE_AUTOSCALING`, `ENGINE_WORKLOAD`), or given by programs that embed an orchestrator.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from dagengine.spec.duration import parse_duration
from orchestrator.kubernetes.base import DEPLOYMENTS, STATEFUL_SETS, Resource

__all__ = ["Autoscaling", "Workload"]

_MOST: Final = 10_000
"""Engines, and executions for each of them, beyond which a number is a mistake."""
_LONGEST: Final = 86_400.0
_FORM: Final = "write min=1,max=10,target=8, and cooldown=5m if you like"
_KINDS: Final = {"deployment": DEPLOYMENTS, "statefulset": STATEFUL_SETS}
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaling:
    """From `min` to `max` engines, one for every `target` executions that run or wait.

    There are less of them only when less were needed for `cooldown` seconds. Raises ValueError when that makes no
    sense.
    """

    min: int
    max: int
    target: int
    cooldown: float = 300.0

    def __post_init__(self) -> None:
        for name, value, least in (("min", self.min, 0), ("max", self.max, 1), ("target", self.target, 1)):
            if not least <= value <= _MOST:
                raise ValueError(f"{name} is {value}: it has to be from {least} to {_MOST:,}")
        if self.min > self.max:
            raise ValueError(f"min is {self.min} and max {self.max}: min must not be greater than max")
        if not 0 <= self.cooldown <= _LONGEST:
            raise ValueError(f"cooldown is {self.cooldown:g} s: it has to be from 0 to 24h")

    @classmethod
    def read(cls, value: object) -> Autoscaling:
        """From `min=1,max=10,target=8,cooldown=5m`, or a mapping, as files hold it. ValueError tells what is wrong."""
        if isinstance(value, cls):
            return value
        given = dict(_parts(value)) if isinstance(value, str) else value
        if not isinstance(given, dict):
            raise ValueError(f"expected how engines are scaled: {_FORM}")
        if missing := [name for name in ("min", "max", "target") if name not in given]:
            raise ValueError(f"{' and '.join(missing)} missing: {_FORM}")
        if unknown := [str(name) for name in given if name not in ("min", "max", "target", "cooldown")]:
            raise ValueError(f"{' and '.join(unknown)} not known here: {_FORM}")
        numbers = {name: _number(name, given[name]) for name in ("min", "max", "target")}
        if "cooldown" not in given:
            return cls(**numbers)
        return cls(**numbers, cooldown=_seconds(given["cooldown"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The workload whose pods are engines: a Deployment, or a StatefulSet."""

    resource: Resource = DEPLOYMENTS
    name: str = "workflow-engine"

    @classmethod
    def read(cls, value: object) -> Workload:
        """From `deployment/workflow-engine`. ValueError tells what is wrong."""
        if isinstance(value, cls):
            return value
        kind, slash, name = value.strip().partition("/") if isinstance(value, str) else ("", "", "")
        resource = _KINDS.get(kind.lower())
        if resource is None or not slash or _NAME.fullmatch(name) is None:
            raise ValueError("expected the workload of the engines: deployment/NAME or statefulset/NAME")
        return cls(resource=resource, name=name)

    @property
    def ordered(self) -> bool:
        """Whether its pods have numbers, and the highest goes first."""
        return self.resource == STATEFUL_SETS

    def __str__(self) -> str:
        return f"{self.resource.kind.lower()}/{self.name}"


def _parts(text: str) -> list[tuple[str, str]]:
    parts: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, value = map(str.strip, part.partition("="))
        if not equals or not value:
            raise ValueError(f"'{part}' is not understood: {_FORM}")
        if name in parts:
            raise ValueError(f"{name} is there twice")
        parts[name] = value
    return list(parts.items())


def _number(name: str, value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{name} is {value!r}: it has to be a whole number")


def _seconds(value: Any) -> float:
    text = value.strip() if isinstance(value, str) else value
    try:
        if isinstance(text, str) and text.replace(".", "", 1).isdecimal():
            text = float(text)
        return parse_duration(text) / 1e6
    except ValueError as exc:
        raise ValueError(f"cooldown: {exc}") from exc
