"""The modules of the crash matrix: pytest imports test files alone, so their folders are put on the path here."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent / "e2e")]
