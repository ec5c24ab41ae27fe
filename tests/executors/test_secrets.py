"""Secrets of engines: where they are found, what is said when they are not, and that their values are never shown."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from dagengine.errors import ExecutorError
from dagengine.executors.secrets import NO_SECRETS, EngineSecrets, Mask, SecretMissing, mask


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """As Kubernetes mounts a Secret: names are links into a directory that is exchanged as a whole."""
    (tmp_path / "..v1").mkdir()
    (tmp_path / "..v1" / "db-password").write_text("from a file\n")
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "db-password").symlink_to("..data/db-password")
    return tmp_path


class TestFinding:
    def test_the_environment_holds_them_in_capitals(self) -> None:
        secrets = EngineSecrets(environment={"DAG_SECRET_DB_PASSWORD": " as it is \n"})
        assert secrets.value("db-password") == " as it is \n"

    def test_a_directory_holds_a_file_for_each_without_its_last_newline(self, directory) -> None:
        assert EngineSecrets(directory, environment={}).value("db-password") == "from a file"
        (directory / "two").write_bytes(b"a\r\n\r\n")
        assert EngineSecrets(directory, environment={}).value("two") == "a\r\n"

    def test_the_environment_wins(self, directory) -> None:
        secrets = EngineSecrets(directory, environment={"DAG_SECRET_DB_PASSWORD": "from there"})
        assert secrets.value("db-password") == "from there"

    def test_one_that_changes_is_read_again(self, directory) -> None:
        secrets = EngineSecrets(directory, environment={})
        assert secrets.value("db-password") == "from a file"
        (directory / "..v2").mkdir()
        (directory / "..v2" / "db-password").write_text("rotated")
        (directory / "..new").symlink_to("..v2")
        (directory / "..new").rename(directory / "..data")
        assert secrets.value("db-password") == "rotated"

    def test_the_environment_of_the_process_is_the_default(self, monkeypatch) -> None:
        monkeypatch.setenv("DAG_SECRET_TOKEN", "there")
        assert EngineSecrets().value("token") == "there"


class TestMissing:
    def test_it_says_its_name_and_where_it_was_looked_for(self, directory) -> None:
        with pytest.raises(SecretMissing) as caught:
            EngineSecrets(directory, environment={"DAG_SECRET_API_KEY": ""}).value("api-key")
        assert str(caught.value) == (
            "this engine has no secret 'api-key': the environment variable DAG_SECRET_API_KEY is not set, and the file "
            f"{directory}/api-key cannot be read: No such file or directory"
        )
        assert isinstance(caught.value, ExecutorError)

    def test_without_a_directory(self) -> None:
        with pytest.raises(SecretMissing, match="ENGINE_SECRETS_DIR names no directory"):
            EngineSecrets(environment={}).value("api-key")

    def test_an_engine_that_was_given_none(self) -> None:
        with pytest.raises(SecretMissing, match=r"'api-key'.*given no secrets"):
            NO_SECRETS.value("api-key")

    @pytest.mark.parametrize("name", ["../etc/passwd", "", "a/b", "a.b", "..", "a\n", "a" * 129])
    def test_a_name_never_leads_out_of_the_directory(self, directory, name) -> None:
        with pytest.raises(SecretMissing, match="no name of a secret"):
            EngineSecrets(directory, environment={}).value(name)

    @pytest.mark.parametrize(
        ("data", "why"),
        [(b"", "is empty"), (b"\n", "is empty"), (b"\xff\xfe", "not UTF-8"), (b"x" * 1048577, "larger")],
    )
    def test_a_file_that_holds_none_is_not_quoted(self, directory, data, why) -> None:
        (directory / "bad").write_bytes(data)
        with pytest.raises(SecretMissing, match=why) as caught:
            EngineSecrets(directory, environment={}).value("bad")
        assert caught.value.__cause__ is None
        assert "xff" not in str(caught.value)


class TestMasking:
    def test_values_are_replaced_the_longest_first(self) -> None:
        assert mask("pass password passport", ["pass", "password"]) == "*** *** ***port"

    def test_without_values_nothing_changes(self) -> None:
        assert mask("text", []) == mask("text", [""]) == "text"
        assert not Mask([])

    @pytest.mark.parametrize(
        "form",
        [
            lambda value: json.dumps(value),
            lambda value: json.dumps(value, ensure_ascii=False),
            lambda value: base64.b64encode(value.encode()).decode(),
            lambda value: base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
            lambda value: "p%C3%A4ss+%22word%22%2F1",
            lambda value: "p%C3%A4ss%20%22word%22%2F1",
        ],
    )
    def test_what_becomes_of_a_value_elsewhere_is_found_too(self, form) -> None:
        value = 'päss "word"/1'
        shown = mask(f"<{form(value)}>", [value])
        assert "word" not in shown
        assert set(shown) <= set('<>*"=')

    def test_the_lines_of_a_value_are_found_one_by_one(self) -> None:
        assert mask("1 second line 2", ["first line\n  second line\nx"]) == "1 *** 2"

    def test_short_parts_are_left_alone(self) -> None:
        assert mask("x and y", ["x\ny"]) == "x and y"

    def test_json_stays_json(self) -> None:
        masked = Mask(["12", "key"])
        assert masked.json(b'{"key":[12,120,"12th",12.5,null,true]}') == b'{"***":["***",120,"***th",12.5,null,true]}'
        assert (
            masked.json(b'[1.50,{"a":123456789012345678901234567890}]')
            == b'[1.50,{"a":123456789012345678901234567890}]'
        )

    def test_what_is_too_deep_to_look_into_is_not_shown(self) -> None:
        assert Mask(["x"]).json(b"[" * 5000 + b'"x"' + b"]" * 5000) == b'"***"'

    def test_nothing_shows_a_value(self, directory) -> None:
        secrets = EngineSecrets(directory, environment={"DAG_SECRET_A": "hunter2"})
        assert "hunter2" not in repr(secrets) + repr(Mask(["hunter2"]))
