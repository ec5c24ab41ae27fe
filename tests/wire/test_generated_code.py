"""The generated code: made from the schema that is in the tree, by a compiler old enough for every runtime we allow."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import descriptor_pb2

from dagengine.wire import limits
from dagengine.wire.v1 import session_pb2

ROOT = Path(__file__).parents[2]


def test_the_service_is_named_as_in_the_limits() -> None:
    assert session_pb2.DESCRIPTOR.services_by_name["Engine"].full_name == limits.SERVICE


def test_every_field_of_the_schema_is_in_the_generated_code() -> None:
    source = (ROOT / "proto/dagengine/wire/v1/session.proto").read_text()
    proto = descriptor_pb2.FileDescriptorProto()
    session_pb2.DESCRIPTOR.CopyToProto(proto)
    generated = {f"{field.name} = {field.number};" for message in proto.message_type for field in message.field}
    written = {f"{line.split()[-3]} = {line.split()[-1]}" for line in source.splitlines() if _is_field(line)}
    assert written == generated


def test_the_compiler_is_not_newer_than_the_oldest_runtime_allowed() -> None:
    stub = (ROOT / "dagengine/wire/v1/session_pb2_grpc.py").read_text()
    assert "GRPC_GENERATED_VERSION = '1.71." in stub
    assert "grpcio>=1.71" in (ROOT / "pyproject.toml").read_text()


def _is_field(line: str) -> bool:
    words = line.split("//")[0].split()
    return len(words) >= 4 and words[-2] == "=" and words[0] != "syntax"
