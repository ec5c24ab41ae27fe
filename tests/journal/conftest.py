"""What the tests of journals share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs


@pytest.fixture
def captured_logs() -> Iterator[list[dict[str, Any]]]:
    """The events that were logged during the test."""
    with capture_logs() as events:
        yield events
