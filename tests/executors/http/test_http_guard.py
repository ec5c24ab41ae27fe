"""Where requests may not go, by rule, by range, by what a name means, and by every way to write the same address."""

from __future__ import annotations

import pytest

from dagengine.executors.http import Policy, addresses
from dagengine.executors.http.guard import Guard, read_rule

LOCAL = ("127.0.0.1", "localhost")


def refused(guard: Guard, host: str, address: str = "", port: int = 443) -> str:
    return guard.refusal(host, port, addresses.read(address or host))


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1", "loopback"),
        ("127.8.9.10", "loopback"),
        ("0.0.0.0", "this host"),
        ("10.1.2.3", "private"),
        ("172.31.255.255", "private"),
        ("192.168.0.1", "private"),
        ("169.254.169.254", "clouds serve credentials"),
        ("168.63.129.16", "metadata"),
        ("100.64.0.1", "carrier"),
        ("100.100.100.200", "carrier"),
        ("192.0.0.192", "reserved"),
        ("198.18.0.1", "benchmarks"),
        ("203.0.113.9", "documentation"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
        ("::", "this host"),
        ("::1", "loopback"),
        ("fd00:ec2::254", "private"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("fec0::1", "private"),
        ("ff02::1", "multicast"),
        ("2001:db8::1", "documentation"),
        ("2001:0:53aa:64c::1", "reserved"),
        ("2002:7f00:1::", "6to4"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:169.254.169.254", "clouds serve credentials"),
        ("::127.0.0.1", "outside 2000::/3"),
        ("::ffff:0:127.0.0.1", "outside 2000::/3"),
        ("64:ff9b::a9fe:a9fe", "clouds serve credentials"),
        ("64:ff9b:1::7f00:1", "outside 2000::/3"),
        ("4000::1", "outside 2000::/3"),
    ],
)
def test_addresses_that_are_not_the_internet_are_closed(address: str, words: str) -> None:
    assert words in refused(Guard(), "a.example.com", address)
    assert "ENGINE_HTTP_ALLOW" in refused(Guard(), "a.example.com", address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_the_internet_is_open(address: str) -> None:
    assert refused(Guard(), "a.example.com", address) == ""


@pytest.mark.parametrize(
    ("rule", "host", "address", "port", "opens"),
    [
        ("db.internal", "db.internal", "10.0.0.5", 443, True),
        ("db.internal", "DB.internal.", "10.0.0.5", 443, True),
        ("db.internal", "x.db.internal", "10.0.0.5", 443, False),
        ("*.internal", "db.internal", "10.0.0.5", 443, True),
        ("*.internal", "internal", "10.0.0.5", 443, False),
        ("*.internal", "evilinternal", "10.0.0.5", 443, False),
        ("10.0.0.0/8", "db.internal", "10.0.0.5", 443, True),
        ("10.0.0.0/8", "db.internal", "::ffff:10.0.0.5", 443, True),
        ("10.0.0.0/8", "db.internal", "192.168.0.5", 443, False),
        ("10.0.0.5", "10.0.0.5", "", 443, True),
        ("localhost:8080", "localhost", "127.0.0.1", 8080, True),
        ("localhost:8080", "localhost", "127.0.0.1", 8081, False),
        ("[::1]:8080", "::1", "", 8080, True),
        ("[::1]:8080", "::1", "", 80, False),
        ("::1", "::1", "", 80, True),
        ("fd00::/8", "db.internal", "fd12::1", 80, True),
        ("[fd00::/8]:80", "db.internal", "fd12::1", 80, True),
        ("*", "anything", "169.254.169.254", 80, True),
        ("*:9200", "search", "10.0.0.5", 9200, True),
        ("*:9200", "search", "10.0.0.5", 9300, False),
    ],
)
def test_a_rule_opens_what_it_is_about(rule: str, host: str, address: str, port: int, opens: bool) -> None:
    assert (refused(Guard(allow=[rule]), host, address, port) == "") is opens
    # The same rule closes the same things.
    closing = refused(Guard(allow=["*"], deny=[rule]), host, address, port)
    assert (closing == f"the rule '{rule}' of ENGINE_HTTP_DENY closes it") is opens


def test_denying_wins() -> None:
    guard = Guard(allow=["10.0.0.0/8"], deny=["10.0.0.7", "*.secret.example.com", "*:25"])
    assert refused(guard, "a", "10.0.0.6") == ""
    assert "'10.0.0.7'" in refused(guard, "a", "10.0.0.7")
    assert "'*.secret.example.com'" in refused(guard, "x.secret.example.com", "8.8.8.8")
    assert "'*:25'" in refused(guard, "mail.example.com", "8.8.8.8", 25)


def test_only_what_is_allowed_can_be_reached_when_the_engine_says_so() -> None:
    guard = Guard(allow=["api.example.com", "10.0.0.0/8"], only_allowed=True)
    assert refused(guard, "api.example.com", "8.8.8.8") == ""
    assert refused(guard, "any.example.com", "10.0.0.1") == ""
    assert "ENGINE_HTTP_ONLY_ALLOWED" in refused(guard, "other.example.com", "8.8.8.8")


@pytest.mark.parametrize(
    "text", ["", "a b", "http://x", "x:0", "x:70000", "x:", "10.0.0.0/33", "a/8", "[x]:1", "*.", "a.*", "-x"]
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no rule: write a name"):
        read_rule(text)


class TestRequests:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"])
    async def test_loopback_is_not_reached_however_it_is_written(self, make, server, host) -> None:
        conclusion, type, message = await make(Policy()).fails(server.url("/", host=host))
        assert (conclusion, type) == ("fail", "Forbidden")
        assert "loopback (127.0.0.0/8), and no rule of ENGINE_HTTP_ALLOW opens it" in message or "::1/128" in message
        assert server.connections == 0

    async def test_a_name_is_judged_by_where_it_leads(self, make, server) -> None:
        async def resolve(host: str, port: int) -> list[str]:
            return ["127.0.0.1"]

        _, type, message = await make(Policy(), resolve=resolve).fails(server.url(host="innocent.example.com"))
        assert type == "Forbidden"
        assert "innocent.example.com is at 127.0.0.1, which is loopback (127.0.0.0/8)" in message
        assert server.connections == 0

    async def test_a_name_that_changes_its_mind_is_looked_up_once(self, make, server, replies) -> None:
        server.answers["/"] = replies(body=1)
        answers = [["127.0.0.1"], ["10.0.0.1"], ["10.0.0.1"]]
        asked: list[str] = []

        async def resolve(host: str, port: int) -> list[str]:
            asked.append(host)
            return answers.pop(0)

        requests = make(Policy(allow=("127.0.0.0/8",)), resolve=resolve)
        assert await requests.value(server.url(host="moving.example.com")) == 1
        assert asked == ["moving.example.com"]
        assert server.received[0].headers["host"] == f"moving.example.com:{server.port}"

    async def test_only_addresses_that_may_be_reached_are_tried(self, make, server, replies) -> None:
        server.answers["/"] = replies(body=1)

        async def resolve(host: str, port: int) -> list[str]:
            return ["169.254.169.254", "::1", "127.0.0.1"]

        requests = make(Policy(allow=("127.0.0.1",)), resolve=resolve)
        assert await requests.value(server.url(host="mixed.example.com")) == 1

    async def test_another_address_is_tried_when_one_does_not_answer(self, make, server, replies) -> None:
        server.answers["/"] = replies(body=1)

        async def resolve(host: str, port: int) -> list[str]:
            return ["127.0.0.2", "127.0.0.1"]

        requests = make(Policy(allow=("127.0.0.0/8",)), resolve=resolve)
        assert await requests.value(server.url(host="two.example.com")) == 1

    async def test_ports_are_part_of_a_rule(self, make, server, other, replies) -> None:
        server.answers["/"] = other.answers["/"] = replies(body=1)
        requests = make(Policy(allow=(f"localhost:{server.port}",)))
        assert await requests.value(server.url(host="localhost")) == 1
        assert (await requests.fails(other.url(host="localhost"), node="b"))[1] == "Forbidden"
        assert other.connections == 0

    async def test_the_machine_s_proxies_are_not_used(self, make, server, other, replies, monkeypatch) -> None:
        server.answers["/"] = replies(body="direct", kind="text/plain")
        monkeypatch.setenv("HTTP_PROXY", other.url())
        monkeypatch.setenv("http_proxy", other.url())
        assert await make().value(server.url()) == "direct"
        assert other.connections == 0

    async def test_a_proxy_is_used_when_the_engine_says_so(self, make, server, other, replies, monkeypatch) -> None:
        url = server.url("/x")
        other.answers[url] = replies(body="proxied", kind="text/plain")
        assert await make(Policy(allow=LOCAL, proxy=other.url())).value(url) == "proxied"
        for name in ("no_proxy", "NO_PROXY", "https_proxy", "HTTPS_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", other.url("").replace("://", "://user:word@"))
        assert await make(Policy(allow=LOCAL, proxy="environment")).value(url) == "proxied"
        assert other.received[-1].headers["proxy-authorization"].startswith("Basic ")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        server.answers["/x"] = replies(body="direct", kind="text/plain")
        assert await make(Policy(allow=LOCAL, proxy="environment")).value(url) == "direct"

    async def test_a_proxy_does_not_open_what_is_closed(self, make, server, other) -> None:
        async def resolve(host: str, port: int) -> list[str]:
            if host == "unknown.example.com":
                raise OSError("no such name")
            return ["169.254.169.254"]

        requests = make(Policy(proxy=other.url(), deny=("*.example.com",)), resolve=resolve)
        assert (await requests.fails("http://127.0.0.1/"))[1] == "Forbidden"
        assert (await requests.fails("http://metadata.test/", node="b"))[1] == "Forbidden"
        assert (await requests.fails("http://unknown.example.com/", node="c"))[1] == "Forbidden"
        assert other.connections == 0
