"""Label selectors as Kubernetes has them: `team=data,tier!=gold,owner,!legacy,env in (test,prod)`.

=====================  ======================================================
`team=data` (or `==`)  the label is there with this value
`tier!=gold`           the label is not there, or has another value
`env in (a,b)`         the label is there with one of these values
`env notin (a,b)`      the label is not there, or has none of these values
`owner`                the label is there
`!legacy`              the label is not there
=====================  ======================================================

Everything between commas must hold. An empty selector takes all. Pure; used by the registry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator import errors

__all__ = ["Requirement", "Selector"]

_TOKEN: Final = re.compile(r"\s*(?P<token>[^\s,()=!<>]+|==|!=|[=!,()<>])?")
_WORD: Final = re.compile(r"[^\s,()=!<>]+")


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one label must be. Without `values`, only whether it is there counts; `negated` turns it round."""

    key: str
    values: frozenset[str] | None
    negated: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet it."""
        found = self.key in labels if self.values is None else labels.get(self.key) in self.values
        return found is not self.negated


@dataclass(frozen=True, slots=True)
class Selector:
    """Requirements that all must hold."""

    requirements: tuple[Requirement, ...] = ()

    @staticmethod
    def parse(text: str) -> Selector:
        """The selector that `text` says. Raises RequestError, naming the place, when it says none."""
        return Selector(tuple(_Parser(text).requirements()))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a workflow with these labels is selected."""
        return all(requirement.matches(labels) for requirement in self.requirements)


class _Parser:
    """Reads one token after the other; `_at` is where the current one begins."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = self._end = 0
        self._token = ""
        self._advance()

    def requirements(self) -> list[Requirement]:
        found: list[Requirement] = []
        while self._token or found:
            found.append(self._requirement())
            if not self._token:
                break
            self._expect(",", "',' before the next requirement")
        return found

    def _requirement(self) -> Requirement:
        if self._token == "!":  # noqa: S105 - a token of the grammar
            self._advance()
            return Requirement(self._word("the name of a label after '!'"), None, True)
        key = self._word("the name of a label")
        match self._token:
            case "=" | "==" | "!=" as operator:
                self._advance()
                return Requirement(key, frozenset([self._value()]), operator == "!=")
            case "in" | "notin" as operator:
                self._advance()
                return Requirement(key, self._set(operator), operator == "notin")
            case "" | ",":
                return Requirement(key, None, False)
        raise self._wrong("'=', '!=', 'in', 'notin' or ','")

    def _set(self, operator: str) -> frozenset[str]:
        self._expect("(", f"'(' after '{operator}'")
        values = {self._value()}
        while self._token == ",":  # noqa: S105 - a token of the grammar
            self._advance()
            values.add(self._value())
        self._expect(")", "',' or ')'")
        return frozenset(values)

    def _value(self) -> str:
        """A value; it may be empty."""
        return self._word("a value") if self._token not in ("", ",", ")") else ""

    def _word(self, expected: str) -> str:
        if not _WORD.fullmatch(self._token):
            raise self._wrong(expected)
        word = self._token
        self._advance()
        return word

    def _expect(self, token: str, expected: str) -> None:
        if self._token != token:
            raise self._wrong(expected)
        self._advance()

    def _advance(self) -> None:
        match = _TOKEN.match(self._text, self._end)
        self._token = (match and match["token"]) or ""
        self._at = match.start("token") if match and self._token else len(self._text)
        self._end = match.end() if match else len(self._text)

    def _wrong(self, expected: str) -> errors.RequestError:
        got = repr(self._token) if self._token else "the end"
        return errors.RequestError(
            f"The label selector {self._text!r} is wrong at character {self._at + 1}: expected {expected}, got {got}."
        )
