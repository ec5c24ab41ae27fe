"""References in place of large values: what goes in comes out, and nothing else is taken for one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagengine.events import facts
from dagengine.events.facts import ErrorInfo, Fact
from orchestrator.blobs import references
from orchestrator.blobs.references import LIMIT, Reference

LARGE = b'"%s"' % (b"x" * LIMIT)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
tricky = st.sampled_from(
    [
        b'{"blobs":{"result":{"digest":"sha256:00","size":3}}}',
        b'{"a":{"blobs":{"result":{"digest":"sha256:00","size":3}}}}',
        b'"blob:sha256:00:3"',
        b'"\\"blobs\\":{\\"result\\":{}}}"',
        b"null",
    ]
)
small = json_values.map(msgspec.json.encode) | tricky


@st.composite
def values(draw: st.DrawFn) -> msgspec.Raw:
    """JSON of any kind; often more than a fact takes."""
    value = draw(small)
    if draw(st.booleans()):
        padding = "y" * draw(st.integers(LIMIT - 40, LIMIT + 40))
        value = msgspec.json.encode([msgspec.Raw(value), padding])
    return msgspec.Raw(value)


@st.composite
def any_fact(draw: st.DrawFn) -> Fact:
    raw = values()
    return draw(
        st.sampled_from(
            [
                facts.NodeSucceeded(at=1, node="a", index=2, attempt=3, result=draw(raw), elapsed=4, cache="c"),
                facts.NodeStarted(at=1, node="a", args=draw(raw), cache="c"),
                facts.NodeExpanded(at=1, node="a", count=1, items=msgspec.Raw(b"[%s]" % bytes(draw(raw)))),
                facts.ExecutionSucceeded(at=1, outputs=draw(raw)),
                facts.ExecutionConcluded(at=1, status="succeeded", outputs=draw(raw)),
                facts.NodeOverridden(at=1, author="ada", node="a", result=draw(raw)),
                facts.Signalled(at=1, author="ada", name="go", payload=draw(raw)),
                facts.NodeFailed(
                    at=1, node="a", conclusion="fail", error=ErrorInfo(type="T", message="m", details=draw(raw))
                ),
                facts.ExecutionStarted(
                    at=1, execution="x", workflow="w", version="1.0.0", digest="d", inputs=draw(raw)
                ),
            ]
        )
    )


@given(any_fact())
def test_what_is_taken_out_can_be_put_back_byte_by_byte(fact: Fact) -> None:
    payload = facts.encode(fact)
    kept, large = references.externalize(payload)
    assert references.resolve(kept, large) == payload
    assert set(references.cited(kept)) == large.keys()
    assert all(digest == "sha256:" + hashlib.sha256(value).hexdigest() for digest, value in large.items())
    assert all(len(value) > LIMIT for value in large.values())
    assert references.externalize(kept) == (kept, {})  # once is enough
    assert facts.decode(kept).at == 1
    if not large:
        assert kept is payload


@given(any_fact())
def test_what_was_never_taken_out_cites_nothing(fact: Fact) -> None:
    payload = facts.encode(fact)
    assert references.cited(payload) == []
    assert references.resolve(payload, {}) is payload


@given(values())
def test_a_value_by_itself_can_be_put_back(raw: msgspec.Raw) -> None:
    value = bytes(raw)
    kept, large = references.externalize_value(value)
    if len(value) <= LIMIT:
        assert (kept, large, references.reference_of(kept)) == (value, {}, None)
        return
    reference = references.reference_of(kept)
    assert reference is not None
    assert large == {reference.digest: value}
    assert (reference.size, references.stand_in(reference)) == (len(value), kept)
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(kept)


def test_how_it_looks() -> None:
    payload = facts.encode(facts.NodeSucceeded(at=1, node="a", result=msgspec.Raw(LARGE), elapsed=4))
    kept, _ = references.externalize(payload)
    digest = "sha256:" + hashlib.sha256(LARGE).hexdigest()
    assert kept == (
        b'{"type":"NodeSucceeded","at":1,"node":"a","result":null,"elapsed":4,'
        b'"blobs":{"result":{"digest":"%s","size":%d}}}' % (digest.encode(), len(LARGE))
    )
    assert references.citations(kept) == {"result": Reference(digest, len(LARGE))}
    assert references.externalize_value(LARGE)[0] == b"blob:%s:%d" % (digest.encode(), len(LARGE))


def test_equal_values_are_kept_once() -> None:
    one = facts.encode(facts.NodeSucceeded(at=1, node="a", result=msgspec.Raw(LARGE)))
    two = facts.encode(facts.ExecutionSucceeded(at=2, outputs=msgspec.Raw(LARGE)))
    assert references.externalize(one)[1].keys() == references.externalize(two)[1].keys()


def test_a_value_that_is_missing_is_not_made_up() -> None:
    kept, _ = references.externalize(facts.encode(facts.ExecutionSucceeded(at=2, outputs=msgspec.Raw(LARGE))))
    with pytest.raises(KeyError):
        references.resolve(kept, {})


@pytest.mark.parametrize(
    "payload",
    [b"[%s]" % LARGE, b'{"at":1,"result":%s}' % LARGE, b'{"type":"Unheard","result":%s}' % LARGE, b"{%s" % LARGE],
    ids=["no object", "no type", "unknown type", "no JSON"],
)
def test_what_is_no_fact_that_is_known_here_is_left_as_it_is(payload: bytes) -> None:
    assert references.externalize(payload) == (payload, {})


def members(kind: Any) -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        yield field.encode_name


@pytest.mark.parametrize("kind", get_args(Fact), ids=lambda kind: kind.__name__)
def test_no_fact_has_a_member_that_could_be_taken_for_the_references(kind: Any) -> None:
    assert "blobs" not in members(kind)
