from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dagengine import secret


def test_tokens_are_random_and_long_enough_and_can_be_sent(dagctl: Callable[..., Any]) -> None:
    answers = [dagctl("token") for _ in range(3)]
    tokens = {answer.out.strip() for answer in answers}
    assert {answer.code for answer in answers} == {0}
    assert len(tokens) == 3
    for token in tokens:
        assert len(token) >= 2 * secret.SHORT
        assert secret.is_sendable(token)


@pytest.mark.parametrize("name", ["My-Token", "under_score", "-token", "a..b", "x" * 254])
def test_a_name_that_no_secret_can_have_is_refused_at_once(name: str, dagctl: Callable[..., Any]) -> None:
    answer = dagctl("token", f"--secret={name}")
    assert answer.code == 2
    assert "is no name of a Secret" in answer.err


def test_a_namespace_without_a_secret_means_nothing(dagctl: Callable[..., Any]) -> None:
    answer = dagctl("token", "--namespace", "workflows")
    assert (answer.code, answer.out) == (2, "")
    assert "--secret" in answer.err


def test_outside_of_a_cluster_a_kubeconfig_is_needed(
    dagctl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    answer = dagctl("token", "--secret", "workflow-token")
    assert answer.code == 2
    assert "KUBECONFIG" in answer.err
