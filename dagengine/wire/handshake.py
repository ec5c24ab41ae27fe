"""The opening of a session: who speaks which protocol, and who knows the shared token.

Four messages, named in `session.proto`: hello, challenge, proof, hello. Nothing here does I/O; the engine's host and
the orchestrator's links carry the messages. Each side contributes a nonce that is new for each session, so a recorded
proof is worth nothing in another; the proofs of the two roles differ, so neither can be sent back as the other's.

The token proves who the peers are. It does not hide or protect what they say afterwards: beyond a trusted network, use
TLS with it. Whoever can talk to a peer sees a proof and may try to guess a weak token from it: use long random ones.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final, Literal

from dagengine.errors import WireError
from dagengine.wire.v1 import session_pb2

__all__ = [
    "PROTOCOL",
    "Crowded",
    "EngineSide",
    "OrchestratorSide",
    "ProofError",
    "ProtocolMismatch",
]

PROTOCOL: Final = 2
"""Version of the session protocol that this code speaks."""

NONCE_BYTES: Final = 32


class ProtocolMismatch(WireError):  # noqa: N818 - a condition, named as gRPC would name it
    """The two sides speak different versions of the session protocol."""


class ProofError(WireError):
    """The peer did not prove that it knows the shared token."""


class Crowded(WireError):  # noqa: N818 - a condition, named as gRPC would name it
    """Too many openings are under way."""


class EngineSide:
    """The engine's part in one opening: `challenge`, then `verify`. Used once."""

    def __init__(self, token: bytes | None) -> None:
        self._token = token
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._expected = b""

    def challenge(self, hello: session_pb2.OrchestratorHello) -> session_pb2.EngineChallenge:
        """The answer to the orchestrator's first message. ProtocolMismatch, WireError."""
        _check_protocol("orchestrator", hello.protocol)
        _check_nonce("orchestrator", hello.nonce)
        proof = b""
        if self._token is not None:
            proof = _prove(self._token, "engine", hello.nonce, self._nonce)
            self._expected = _prove(self._token, "orchestrator", hello.nonce, self._nonce)
        return session_pb2.EngineChallenge(protocol=PROTOCOL, nonce=self._nonce, proof=proof)

    def verify(self, proof: session_pb2.OrchestratorProof) -> None:
        """Check the orchestrator's second message. Raises ProofError unless it knows the token."""
        if self._token is not None:
            _check_proof("orchestrator", proof.proof, self._expected)


class OrchestratorSide:
    """The orchestrator's part in one opening: `hello`, then `answer`. Used once."""

    def __init__(self, token: bytes | None, *, orchestrator: str, incarnation: str) -> None:
        self._token = token
        self._orchestrator = orchestrator
        self._incarnation = incarnation
        self._nonce = secrets.token_bytes(NONCE_BYTES)

    def hello(self) -> session_pb2.OrchestratorHello:
        """The first message of the session."""
        return session_pb2.OrchestratorHello(
            protocol=PROTOCOL,
            orchestrator=self._orchestrator,
            incarnation=self._incarnation,
            nonce=self._nonce,
        )

    def answer(self, challenge: session_pb2.EngineChallenge) -> session_pb2.OrchestratorProof:
        """The answer to the engine's challenge. ProtocolMismatch, WireError; ProofError unless it knows the token."""
        _check_protocol("engine", challenge.protocol)
        _check_nonce("engine", challenge.nonce)
        if self._token is None:
            return session_pb2.OrchestratorProof()
        _check_proof("engine", challenge.proof, _prove(self._token, "engine", self._nonce, challenge.nonce))
        return session_pb2.OrchestratorProof(proof=_prove(self._token, "orchestrator", self._nonce, challenge.nonce))


_Role = Literal["engine", "orchestrator"]


def _prove(token: bytes, role: _Role, orchestrator_nonce: bytes, engine_nonce: bytes) -> bytes:
    message = b"dagengine session " + role.encode() + b"\0" + orchestrator_nonce + engine_nonce
    return hmac.digest(token, message, hashlib.sha256)


def _check_proof(peer: _Role, proof: bytes, expected: bytes) -> None:
    if not proof:
        raise ProofError(
            f"the {peer} sent no proof that it knows the shared token, which is required here: "
            f"give the {peer} the same token (DAGENGINE_TOKEN or DAGENGINE_TOKEN_FILE)"
        )
    if not hmac.compare_digest(proof, expected):
        raise ProofError(
            f"the {peer} has another shared token than this side: "
            "give both the same one (DAGENGINE_TOKEN or DAGENGINE_TOKEN_FILE)"
        )


def _check_protocol(peer: _Role, version: int) -> None:
    if version != PROTOCOL:
        raise ProtocolMismatch(
            f"the {peer} speaks version {version} of the session protocol, this side version {PROTOCOL}: "
            "upgrade the older of the two"
        )


def _check_nonce(peer: _Role, nonce: bytes) -> None:
    if len(nonce) != NONCE_BYTES:
        raise WireError(f"the {peer} sent a nonce of {len(nonce)} bytes; it takes {NONCE_BYTES}")
