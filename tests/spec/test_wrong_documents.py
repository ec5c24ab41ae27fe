"""Every document in `wrong/` against the exact problems beside it.

`REWRITE_EXPECTED=1 pytest tests/spec/test_wrong_documents.py` writes the `.expected.txt` files anew; read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dagengine.errors import SpecError
from dagengine.spec import document

FOLDER = Path(__file__).parent / "wrong"
DOCUMENTS = sorted(path for path in FOLDER.iterdir() if path.suffix in (".yaml", ".json"))


def _told(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        document.read(path.read_bytes(), source=path.name)
    lines = [caught.value.summary]
    for problem in caught.value.problems:
        where = f"{problem.path}: " if problem.path else ""
        lines.append(f"{problem.line}:{problem.column} {where}{problem.message}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_wrong_document_gets_all_its_problems_with_path_and_line(path: Path) -> None:
    expected = path.with_name(f"{path.name}.expected.txt")
    told = _told(path)
    if os.environ.get("REWRITE_EXPECTED"):
        expected.write_text(told)
    assert told == expected.read_text()


def test_there_are_enough_of_them() -> None:
    assert len(DOCUMENTS) >= 40
    assert {path.name for path in FOLDER.glob("*.expected.txt")} == {f"{path.name}.expected.txt" for path in DOCUMENTS}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_no_message_speaks_of_the_libraries_behind_it(path: Path) -> None:
    told = _told(path).lower()
    for word in ("pydantic", "errors.pydantic.dev", "input should be", "value error", "yaml.org", "<unicode string>"):
        assert word not in told
