"""The opening of a session: who gets in, and what they are told when they do not."""

from __future__ import annotations

import pytest

from dagengine.errors import WireError
from dagengine.wire import handshake
from dagengine.wire.handshake import EngineSide, OrchestratorSide, ProofError, ProtocolMismatch
from dagengine.wire.v1 import session_pb2

TOKEN = b"a token that nobody guesses, truly"


def orchestrator(token: bytes | None = TOKEN) -> OrchestratorSide:
    return OrchestratorSide(token, orchestrator="orch-1", incarnation="store-1")


@pytest.mark.parametrize("token", [None, TOKEN])
def test_both_sides_open_a_session_with_the_same_token_or_with_none(token: bytes | None) -> None:
    engine, other = EngineSide(token), orchestrator(token)
    hello = other.hello()
    assert (hello.orchestrator, hello.incarnation) == ("orch-1", "store-1")
    engine.verify(other.answer(engine.challenge(hello)))


def test_without_a_token_no_proof_is_shown() -> None:
    engine, other = EngineSide(None), orchestrator(None)
    challenge = engine.challenge(other.hello())
    assert challenge.proof == b""
    assert other.answer(challenge).proof == b""


def test_the_engine_refuses_an_orchestrator_with_another_token() -> None:
    engine, other = EngineSide(TOKEN), orchestrator(b"another")
    challenge = engine.challenge(other.hello())
    with pytest.raises(ProofError, match="the engine has another shared token"):
        other.answer(challenge)
    intruder = handshake._prove(b"another", "orchestrator", b"n" * 32, challenge.nonce)
    with pytest.raises(ProofError, match="the orchestrator has another shared token"):
        engine.verify(session_pb2.OrchestratorProof(proof=intruder))


def test_the_engine_refuses_an_orchestrator_without_a_token_and_says_what_to_do() -> None:
    engine, other = EngineSide(TOKEN), orchestrator(None)
    proof = other.answer(engine.challenge(other.hello()))
    with pytest.raises(ProofError, match=r"the orchestrator sent no proof .* DAGENGINE_TOKEN"):
        engine.verify(proof)


def test_the_orchestrator_refuses_an_engine_without_a_token() -> None:
    engine, other = EngineSide(None), orchestrator()
    with pytest.raises(ProofError, match="the engine sent no proof"):
        other.answer(engine.challenge(other.hello()))


def test_the_orchestrator_refuses_an_engine_with_another_token() -> None:
    engine, other = EngineSide(b"another"), orchestrator()
    with pytest.raises(ProofError, match="the engine has another shared token"):
        other.answer(engine.challenge(other.hello()))


def test_a_recorded_proof_of_an_orchestrator_opens_no_second_session() -> None:
    first, other = EngineSide(TOKEN), orchestrator()
    hello = other.hello()
    recorded = other.answer(first.challenge(hello))
    first.verify(recorded)
    second = EngineSide(TOKEN)
    second.challenge(hello)
    with pytest.raises(ProofError):
        second.verify(recorded)


def test_a_recorded_challenge_of_an_engine_convinces_no_second_session() -> None:
    first = orchestrator()
    recorded = EngineSide(TOKEN).challenge(first.hello())
    first.answer(recorded)
    with pytest.raises(ProofError):
        orchestrator().answer(recorded)


def test_the_proof_of_one_role_is_not_that_of_the_other() -> None:
    engine, other = EngineSide(TOKEN), orchestrator()
    challenge = engine.challenge(other.hello())
    with pytest.raises(ProofError):
        engine.verify(session_pb2.OrchestratorProof(proof=challenge.proof))


def test_a_proof_before_the_challenge_is_refused() -> None:
    with pytest.raises(ProofError):
        EngineSide(TOKEN).verify(session_pb2.OrchestratorProof(proof=b"x" * 32))
    with pytest.raises(ProofError):
        EngineSide(TOKEN).verify(session_pb2.OrchestratorProof())


def test_another_version_of_the_protocol_is_refused_with_both_versions_named() -> None:
    hello = orchestrator().hello()
    hello.protocol = 7
    with pytest.raises(ProtocolMismatch, match=r"the orchestrator speaks version 7 .* this side version 2"):
        EngineSide(TOKEN).challenge(hello)
    other = orchestrator()
    challenge = EngineSide(TOKEN).challenge(other.hello())
    challenge.protocol = 9
    with pytest.raises(ProtocolMismatch, match=r"the engine speaks version 9 .* this side version 2"):
        other.answer(challenge)


def test_a_short_nonce_is_refused() -> None:
    hello = orchestrator().hello()
    hello.nonce = b"short"
    with pytest.raises(WireError, match="nonce of 5 bytes"):
        EngineSide(TOKEN).challenge(hello)


def test_the_token_is_in_no_message_and_no_error() -> None:
    engine, other = EngineSide(TOKEN), orchestrator()
    hello = other.hello()
    challenge = engine.challenge(hello)
    proof = other.answer(challenge)
    said = b"".join(message.SerializeToString() for message in (hello, challenge, proof))
    assert TOKEN not in said
    with pytest.raises(ProofError) as caught:
        engine.verify(session_pb2.OrchestratorProof(proof=b"x" * 32))
    assert TOKEN.decode() not in str(caught.value)
