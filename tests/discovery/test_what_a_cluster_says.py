"""From pods and endpoint slices, as the API has them, to addresses of engines."""

from __future__ import annotations

from typing import Any, cast

import pytest

from dagengine.testing import VirtualClock
from orchestrator.discovery.base import Address
from orchestrator.discovery.endpoint_slices import EndpointSliceDiscovery
from orchestrator.discovery.pods import CAPACITY, DRAIN, PORT, PodDiscovery
from orchestrator.kubernetes.base import Cluster

NO_CLUSTER = cast("Cluster", None)  # what is tested here asks nothing of it


def pod(name: str = "engine-0", *, ip: str = "10.0.0.1", ready: str = "True", **changes: Any) -> dict[str, Any]:
    metadata = {"name": name, "uid": f"uid-{name}", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {
        "metadata": metadata | changes.pop("metadata", {}),
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]} | changes,
    }


def of_pods(*pods: dict[str, Any]) -> tuple[set[Address], set[str]]:
    discovery = PodDiscovery(NO_CLUSTER, VirtualClock(), labels="app=e", port=50051, interval=30)
    complaints: set[str] = set()
    return set(discovery.addresses(pods, complaints)), complaints


def test_a_ready_pod_is_an_engine_with_the_pods_identity() -> None:
    assert of_pods(pod()) == ({Address("grpc", "10.0.0.1:50051", uid="uid-engine-0")}, set())


def test_an_ipv6_address_is_put_in_brackets() -> None:
    ((address,), _) = of_pods(pod(ip="fd00::1"))
    assert address.target == "[fd00::1]:50051"


@pytest.mark.parametrize(
    "not_there",
    [
        pod(ready="False"),
        pod(ready="Unknown"),
        pod(conditions=[]),
        pod(ip=""),
        pod(phase="Pending"),
        pod(phase="Succeeded"),
        pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        {"metadata": {"name": "new", "uid": "uid"}},
    ],
    ids=["unready", "unknown", "no-condition", "no-ip", "pending", "ended", "terminating", "no-status"],
)
def test_a_pod_that_cannot_serve_is_no_engine(not_there: dict[str, Any]) -> None:
    assert of_pods(not_there) == (set(), set())


@pytest.mark.parametrize("ready", ["True", "False"])
def test_a_pod_that_is_being_deleted_leaves_until_it_has_ended(ready: str) -> None:
    discovery = PodDiscovery(NO_CLUSTER, VirtualClock(), labels="app=e", port=50051, interval=30)
    deleted = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "ready": ready}
    pods = [pod(**deleted), pod("ended", phase="Succeeded", **deleted), pod("unscheduled", ip="", **deleted), pod("on")]
    assert set(discovery.departing(pods)) == {Address("grpc", "10.0.0.1:50051", uid="uid-engine-0")}


def test_annotations_say_port_and_capacity_and_that_it_drains() -> None:
    annotated = pod(metadata={"annotations": {PORT: "6000", CAPACITY: " 4 ", DRAIN: "autoscaling"}})
    expected = Address("grpc", "10.0.0.1:6000", uid="uid-engine-0", capacity=4, draining=True)
    assert of_pods(annotated) == ({expected}, set())


@pytest.mark.parametrize("annotation", [PORT, CAPACITY])
@pytest.mark.parametrize("value", ["", "0", "-1", "many", "1.5", "99999999", "٣"])
def test_a_wrong_annotation_is_complained_of_and_not_heeded(annotation: str, value: str) -> None:
    addresses, complaints = of_pods(pod(metadata={"annotations": {annotation: value}}))
    assert addresses == {Address("grpc", "10.0.0.1:50051", uid="uid-engine-0")}
    (complaint,) = complaints
    assert annotation in complaint
    assert "engine-0" in complaint


def test_of_two_pods_at_one_place_the_younger_holds_however_they_are_listed() -> None:
    older, younger = pod("b"), pod("a", metadata={"name": "a", "uid": "a", "creationTimestamp": "2026-01-01T00:00:01Z"})
    same = pod("c")
    for pods in ([older, younger], [younger, older]):
        assert {address.uid for address in of_pods(*pods)[0]} == {"a"}
    for pods in ([older, same], [same, older]):
        assert {address.uid for address in of_pods(*pods)[0]} == {"uid-c"}


def test_an_empty_drain_annotation_drains_nothing() -> None:
    ((address,), _) = of_pods(pod(metadata={"annotations": {DRAIN: ""}}))
    assert not address.draining


def test_what_describes_an_engine_otherwise_does_not_change_what_it_is() -> None:
    ((plain,), _) = of_pods(pod())
    ((drained,), _) = of_pods(pod(metadata={"annotations": {DRAIN: "yes", CAPACITY: "2"}}))
    ((another,), _) = of_pods(pod(metadata={"uid": "another"}))
    assert plain != drained
    assert plain.key == drained.key
    assert plain.key != another.key


def test_of_two_pods_at_one_address_the_younger_one_holds() -> None:
    old, young = pod("old"), pod("young", metadata={"creationTimestamp": "2026-01-02T00:00:00Z"})
    assert {address.uid for address in of_pods(young, old)[0]} == {"uid-young"}


def piece(*endpoints: dict[str, Any], ports: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": more.pop("name", "engines-1")},
        "addressType": more.pop("family", "IPv4"),
        "ports": [{"name": "grpc", "port": 50051}] if ports is None else ports,
        "endpoints": list(endpoints),
    }


def endpoint(ip: str = "10.0.0.1", uid: str = "u", **conditions: Any) -> dict[str, Any]:
    return {"addresses": [ip], "conditions": conditions, "targetRef": {"kind": "Pod", "uid": uid}}


def of_slices(*pieces: dict[str, Any]) -> tuple[set[Address], set[str]]:
    discovery = EndpointSliceDiscovery(NO_CLUSTER, VirtualClock(), service="engines", port=50051, interval=30)
    complaints: set[str] = set()
    return set(discovery.addresses(pieces, complaints)), complaints


def test_a_ready_endpoint_is_an_engine_with_the_identity_of_its_pod() -> None:
    assert of_slices(piece(endpoint(ready=True)))[0] == {Address("grpc", "10.0.0.1:50051", uid="u")}


def test_an_endpoint_that_does_not_say_whether_it_is_ready_is() -> None:
    assert len(of_slices(piece(endpoint()))[0]) == 1


def test_an_endpoint_whose_pod_is_being_deleted_leaves() -> None:
    discovery = EndpointSliceDiscovery(NO_CLUSTER, VirtualClock(), service="engines", port=50051, interval=30)
    ending = {"ready": False, "serving": True, "terminating": True}
    pieces = [piece(endpoint(ready=True), endpoint("10.0.0.2", "v", ready=False), endpoint("10.0.0.3", "w", **ending))]
    assert set(discovery.departing(pieces)) == {Address("grpc", "10.0.0.3:50051", uid="w")}


@pytest.mark.parametrize("conditions", [{"ready": False}, {"ready": True, "terminating": True}], ids=["not", "ending"])
def test_an_endpoint_that_cannot_serve_is_no_engine(conditions: dict[str, bool]) -> None:
    assert of_slices(piece(endpoint(**conditions)))[0] == set()


def test_the_port_is_the_one_named_grpc_or_the_only_one_or_the_default() -> None:
    metrics = {"name": "metrics", "port": 9090}
    for ports, expected in (
        ([metrics, {"name": "grpc", "port": 6000}], 6000),
        ([{"name": "", "port": 7000}], 7000),
        ([], 50051),
    ):
        ((address,), complaints) = of_slices(piece(endpoint(), ports=ports))
        assert address.target == f"10.0.0.1:{expected}"
        assert not complaints


def test_a_slice_whose_port_cannot_be_told_is_complained_of() -> None:
    addresses, complaints = of_slices(piece(endpoint(), ports=[{"name": "a", "port": 1}, {"name": "b", "port": 2}]))
    assert addresses == set()
    assert "engines-1" in complaints.pop()


def test_a_pod_with_addresses_of_both_families_is_one_engine() -> None:
    six = piece(endpoint("fd00::1"), name="a", family="IPv6")
    four = piece(endpoint("10.0.0.1"), name="b")
    assert {address.target for address in of_slices(six, four)[0]} == {"10.0.0.1:50051"}
    assert {address.target for address in of_slices(six)[0]} == {"[fd00::1]:50051"}
