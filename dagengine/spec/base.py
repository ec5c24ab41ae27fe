"""What all parts of a document share: they are immutable, and an unknown field is an error."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

__all__ = ["Identifier", "Model"]

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]+$", min_length=1, max_length=128)]


class Model(BaseModel):
    """Base of every part of a document."""

    model_config = ConfigDict(extra="forbid", frozen=True)
