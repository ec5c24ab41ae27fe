"""The list of addresses in ENGINES."""

from __future__ import annotations

import pytest

from dagengine.errors import SettingsError
from orchestrator.discovery.base import Address
from orchestrator.discovery.static import parse_addresses


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("", set()),
        ("127.0.0.1:50051", {"127.0.0.1:50051"}),
        ("a:1,b:65535", {"a:1", "b:65535"}),
        (" a:1 ,\n b:2 ,", {"a:1", "b:2"}),
        ("a:1 b:2", {"a:1", "b:2"}),
        ("[::1]:50051", {"[::1]:50051"}),
        ("Engine-1.Example.COM:050051", {"engine-1.example.com:50051"}),
        ("my_engine:1", {"my_engine:1"}),
    ],
)
def test_lists_are_read(text: str, targets: set[str]) -> None:
    assert parse_addresses(text) == {Address("grpc", target) for target in targets}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("engine-1", "'engine-1' lacks a host or a port"),
        (":50051", "':50051' lacks a host or a port"),
        ("a:0", "'a:0' has a port that is not a number from 1 to 65535"),
        ("a:65536", "from 1 to 65535"),
        ("a:b", "from 1 to 65535"),
        ("a:", "from 1 to 65535"),
        ("a:¹", "from 1 to 65535"),
        ("::1:50051", "'::1:50051' has an IPv6 address without brackets"),
        ("[::1:50051", "no IPv6 address in its brackets"),
        ("[engine]:50051", "no IPv6 address in its brackets"),
        ("grpc://a:1", "'grpc://a:1' is a URL"),
        ("a/b:1", "'a/b:1' has no valid host name"),
        ("-a:1", "'-a:1' has no valid host name"),
        ("a:1,b:2,A:1", "'A:1' is in the list twice"),
    ],
)
def test_a_wrong_entry_is_named(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_addresses(text)
    assert message in str(caught.value)


def test_an_address_prints_as_it_is_dialled() -> None:
    assert str(Address("grpc", "127.0.0.1:50051")) == "127.0.0.1:50051"
