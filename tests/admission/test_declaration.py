from __future__ import annotations

import pytest

from dagengine.admission import declaration
from dagengine.admission.declaration import Declared
from dagengine.spec.rate import parse_rate


def test_a_text_declares_sizes_and_rates() -> None:
    assert declaration.parse("db=4, api=2:10/s,") == {"db": Declared(4), "api": Declared(2, parse_rate("10/s"))}
    assert declaration.parse("") == {}


def test_a_file_has_a_mapping() -> None:
    assert declaration.read({"db": 4, "api": "2:10/s"}) == declaration.parse("db=4,api=2:10/s")
    assert declaration.read({"db": Declared(4)}) == {"db": Declared(4)}


def test_a_declaration_is_written_as_it_is_read() -> None:
    for text in ("4", "2:10/s"):
        assert str(declaration.parse(f"db={text}")["db"]) == text


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("db", "'db' is no pool: write name=size"),
        ("db=-1", "'db=-1' is no pool"),
        ("a b=1", "'a b=1' is no pool"),
        ("db=1,db=2", "the pool 'db' is given twice"),
        ("db=1:fast", "expected a rate such as 10/s"),
        (7, "expected pools such as db=4"),
        ({"db": 1.5}, "the size of pool 'db' is 1.5"),
        ({"db": True}, "the size of pool 'db' is True"),
        ({"db": "1,x=2"}, "the size of pool 'db' is"),
    ],
)
def test_what_is_wrong_is_said(wrong: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        declaration.read(wrong)
