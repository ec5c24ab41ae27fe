"""How replicas find out which one leads, as settings say it."""

from __future__ import annotations

import pytest

from dagengine.errors import SettingsError
from orchestrator import settings

POSTGRES = "postgresql://database/dagengine"


@pytest.fixture
def in_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")


def test_outside_of_a_cluster_the_store_elects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert settings.load({"database_url": POSTGRES}).lease == ""


@pytest.mark.usefixtures("in_pod")
@pytest.mark.parametrize(
    ("flags", "lease"),
    [
        ({"database_url": POSTGRES}, "workflow-orchestrator"),
        ({"database_url": POSTGRES, "leader_election_lease": "other"}, "other"),
        ({"database_url": POSTGRES, "leader_election": "store"}, ""),
        ({"database_url": POSTGRES, "in_cluster_config": False}, ""),
        ({"database_url": "sqlite://"}, ""),  # there is never a second one
        ({"database_url": "sqlite://", "leader_election": "kubernetes"}, "workflow-orchestrator"),
    ],
    ids=["shared", "named", "store", "outside", "alone", "told"],
)
def test_in_a_pod_a_lease_elects_where_several_can_share_the_store(flags: dict[str, object], lease: str) -> None:
    assert settings.load(flags).lease == lease


def test_a_name_that_no_lease_can_have_is_refused() -> None:
    with pytest.raises(SettingsError, match="leader_election_lease"):
        settings.load({"leader_election_lease": "Not_A_Name"})
