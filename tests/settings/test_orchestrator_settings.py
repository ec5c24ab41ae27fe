"""Settings of the orchestrator: where they come from, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from dagengine import configuration
from dagengine.errors import SettingsError
from orchestrator import settings
from orchestrator.discovery.base import Address

TOKEN = "a-secret-that-must-never-be-shown"


def _error(config: Path | None = None, **flags: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        settings.load(flags, config=config)
    assert TOKEN not in str(caught.value)
    return str(caught.value)


def _file(folder: Path, text: str) -> Path:
    path = folder / "orchestrator.yaml"
    path.write_text(text)
    return path


class TestSources:
    def test_defaults_are_safe_and_local(self) -> None:
        loaded = settings.load()
        assert (loaded.host, loaded.http_port, loaded.database_url) == ("127.0.0.1", 8080, "sqlite:///dagengine.db")
        assert (loaded.engines, loaded.load_balancer_type) == ((), "consistent-hash")
        assert (loaded.max_body_bytes, loaded.max_queued) == (8_388_608, 10_000)
        assert loaded.token() is None

    def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = _file(tmp_path, "http_port: 1\nmax_queued: 1\nlog_level: error\n")
        monkeypatch.setenv("HTTP_PORT", "2")
        monkeypatch.setenv("MAX_QUEUED", "2")
        loaded = settings.load({"http_port": 3, "log_level": None}, config=config)
        assert (loaded.http_port, loaded.max_queued, loaded.log_level, loaded.log_format) == (3, 2, "error", "auto")

    def test_an_empty_variable_counts_as_not_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PORT", "")
        assert settings.load().http_port == 8080

    def test_an_empty_file_is_fine(self, tmp_path: Path) -> None:
        assert settings.load(config=_file(tmp_path, "# nothing\n")).http_port == 8080

    def test_making_settings_directly_reads_no_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PORT", "2")
        assert settings.OrchestratorSettings().http_port == 8080


class TestValues:
    def test_engines_come_as_text_or_as_a_list(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = frozenset({Address("grpc", "a:1"), Address("grpc", "[::1]:2")})
        monkeypatch.setenv("ENGINES", "a:1, [::1]:2")
        assert settings.load().addresses == expected
        monkeypatch.delenv("ENGINES")
        assert settings.load(config=_file(tmp_path, "engines: ['a:1', '[::1]:2']\n")).addresses == expected

    @pytest.mark.parametrize(("text", "seconds"), [("5", 5.0), ("1.5", 1.5), ("90s", 90.0), ("1h", 3_600.0)])
    def test_lengths_of_time_are_seconds_or_texts(
        self, monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
    ) -> None:
        monkeypatch.setenv("HTTP_TRIGGER_WAIT", text)
        assert settings.load().http_trigger_wait == seconds

    def test_allowed_hosts_are_a_list(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALLOWED_HOSTS", "dag.example.org, *.example.com")
        assert settings.load().allowed_hosts == ("dag.example.org", "*.example.com")

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://me:secret@db:5433/x?sslmode=require",
            "postgresql://me:s%40:cret@[::1]:5433,db-2,db-3:5432/x",
            "postgresql://%2Fvar%2Frun/x",
            "postgres:///x",
            "postgres://?host=/var/run&dbname=x",
        ],
    )
    def test_postgresql_databases_are_taken(self, url: str) -> None:
        assert settings.load({"database_url": url}).database_url == url

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://me:s3cret@db:port/x",
            "postgresql://me:s3cret@db:5432,db:x/x",
            "postgresql://me:s3cret@db:123456/x",
            "postgresql://me:s3@cret@db/x",
            "postgresql://me:s3/cret@db/x",
        ],
    )
    def test_postgresql_urls_that_cannot_be_read_are_told_without_their_password(self, url: str) -> None:
        with pytest.raises(SettingsError, match="with a number for the port") as refused:
            settings.load({"database_url": url})
        assert "s3c" not in str(refused.value)
        assert "s3@" not in str(refused.value)
        assert "cret" not in str(refused.value)

    @pytest.mark.parametrize("url", ["sqlite:///x.db", "sqlite:////var/lib/x.db", "sqlite://", "sqlite:///:memory:"])
    def test_sqlite_databases_are_taken(self, url: str) -> None:
        assert settings.load({"database_url": url}).database_url == url

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST."])
    def test_loopback_needs_no_token(self, host: str) -> None:
        assert settings.load({"host": host}).host == host

    def test_other_addresses_are_taken_with_a_token_or_mutual_tls(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pems = {"http_tls_cert": "c.pem", "http_tls_key": "k.pem", "http_tls_client_ca": "ca.pem"}
        assert settings.load({"host": "0.0.0.0", **pems}).http_tls_cert == Path("c.pem")
        monkeypatch.setenv("DAGENGINE_TOKEN", TOKEN)
        assert settings.load({"host": "0.0.0.0"}).host == "0.0.0.0"


class TestToken:
    def test_comes_from_the_environment_and_is_never_shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DAGENGINE_TOKEN", TOKEN)
        loaded = settings.load()
        token = loaded.token()
        assert token is not None
        assert token.get_secret_value() == TOKEN
        assert TOKEN not in repr(loaded) + str(token)

    def test_comes_from_a_file_without_the_line_end(self, tmp_path: Path) -> None:
        path = tmp_path / "token"
        path.write_text(f"{TOKEN}\n")
        token = settings.load({"dagengine_token_file": path}).token()
        assert token is not None
        assert token.get_secret_value() == TOKEN

    def test_a_file_that_is_missing_or_empty_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "token"
        assert _error(dagengine_token_file=path) == f"cannot read the token file {path}: No such file or directory"
        path.write_text("\n")
        assert _error(dagengine_token_file=path) == f"the token file {path} is empty"

    @pytest.mark.parametrize(("length", "warned"), [(15, True), (16, False)])
    def test_one_that_could_be_guessed_is_warned_of_and_not_shown(self, length: int, warned: bool) -> None:
        with structlog.testing.capture_logs() as entries:
            configuration.warn_of_short_token(SecretStr("x" * length))
        assert [entry["event"] for entry in entries] == ["token_is_short"] * warned
        assert "xx" not in str(entries)

    def test_one_that_does_not_fit_into_a_header_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DAGENGINE_TOKEN", "schlüssel")
        message = _error()
        assert message == "DAGENGINE_TOKEN must be printable ASCII characters"


class TestRefusals:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "dag.example.org"])
    def test_an_open_door_is_refused(self, host: str) -> None:
        message = _error(host=host)
        assert message.startswith(f"refusing to listen on {host} without a way to tell clients from strangers")
        assert "DAGENGINE_TOKEN" in message

    def test_tls_for_the_server_alone_does_not_tell_who_asks(self) -> None:
        assert "refusing to listen" in _error(host="0.0.0.0", http_tls_cert="c.pem", http_tls_key="k.pem")

    def test_everything_wrong_is_named_with_where_it_came_from(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = _file(tmp_path, "max_queued: 0\nhttp_prt: 1\n")
        monkeypatch.setenv("ENGINES", "a:1,b")
        lines = _error(config=config, http_port=99_999).splitlines()
        assert sorted(lines) == sorted(
            [
                "environment variable ENGINES: engine address 'b' lacks a host or a port: "
                "write host:port, for example engine-1:50051 or [::1]:50051",
                "flag for http_port: Input should be less than or equal to 65535",
                f"{config}: max_queued: Input should be greater than or equal to 1",
                f"{config}: http_prt: there is no such setting; did you mean 'http_port'?",
            ]
        )

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ({"dagengine_tls_cert": "c.pem"}, "set both DAGENGINE_TLS_CERT and DAGENGINE_TLS_KEY, or neither"),
            ({"http_tls_key": "k.pem"}, "set both HTTP_TLS_CERT and HTTP_TLS_KEY, or neither"),
            ({"http_tls_client_ca": "ca.pem"}, "set HTTP_TLS_CERT and HTTP_TLS_KEY too"),
            ({"dagengine_token": TOKEN, "dagengine_token_file": "t"}, "both DAGENGINE_TOKEN and DAGENGINE_TOKEN_FILE"),
            ({"database_url": f"mysql://me:{TOKEN}@db/x"}, "mysql databases are not supported"),
            ({"database_url": "x.db"}, "this is not supported: write sqlite:///path/to/file.db"),
            ({"load_balancer_type": "random"}, "'consistent-hash', 'round-robin' or 'least-loaded'"),
            ({"engines": 5}, "expected addresses: host:port"),
            ({"cron_catch_up": "soon"}, "expected a duration such as 250ms, 30s, 5m or 1h30m"),
        ],
    )
    def test_what_cannot_be_used_says_what_to_do(self, flags: dict[str, Any], message: str) -> None:
        assert message in _error(**flags)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (f"dagengine_token: [{TOKEN}\n", "is not YAML"),
            ("- http_port\n", "must be a mapping of settings to values"),
            ("1: 2\n", "must be a mapping of settings to values"),
        ],
    )
    def test_a_file_that_is_no_settings_file_is_refused(self, tmp_path: Path, text: str, message: str) -> None:
        assert message in _error(config=_file(tmp_path, text))

    def test_a_file_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        assert "No such file or directory" in _error(config=tmp_path / "missing.yaml")


class TestRetention:
    def test_nothing_is_deleted_unless_it_is_set(self) -> None:
        loaded = settings.load()
        assert (loaded.retention_ttl, loaded.retention_keep, loaded.retention_log_ttl) == (None, None, None)

    def test_lengths_of_time_and_numbers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RETENTION_TTL", "30d")
        monkeypatch.setenv("RETENTION_KEEP", "1000")
        monkeypatch.setenv("RETENTION_LOG_TTL", "604800")
        loaded = settings.load()
        assert (loaded.retention_ttl, loaded.retention_keep, loaded.retention_log_ttl) == (2_592_000, 1_000, 604_800)

    def test_what_would_delete_everything_is_refused(self) -> None:
        for name in ("retention_ttl", "retention_keep", "retention_log_ttl"):
            assert name in _error(**{name: 0})
