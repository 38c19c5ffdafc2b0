# SPDX-License-Identifier: Apache-2.0
"""Endpoints, EndpointSlices and addresses of load balancers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import force_setattr

from meshbox.contracts import Obj

from .conftest import DEPLOYMENTS, Cluster, deployment, pod_spec

SLICES = "endpointslices.discovery.k8s.io"


def service(name: str = "web", selector: dict[str, str] | None = None, **spec: Any) -> Obj:
    selector = {"app": name} if selector is None else selector
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": ports, **({"selector": selector} if selector else {}), **spec},
    }


def subsets(cluster: Cluster, name: str = "web") -> list[Obj]:
    found = cluster.objects.find("endpoints", name, "default")
    return (found or {}).get("subsets") or []


def ready_ips(cluster: Cluster, name: str = "web") -> list[str]:
    return [address["ip"] for subset in subsets(cluster, name) for address in subset.get("addresses") or ()]


def waiting_ips(cluster: Cluster, name: str = "web") -> list[str]:
    return [address["ip"] for subset in subsets(cluster, name) for address in subset.get("notReadyAddresses") or ()]


def slices(cluster: Cluster, name: str = "web") -> list[Obj]:
    return cluster.objects.list(SLICES, "default", labels=f"kubernetes.io/service-name={name}")


async def test_endpoints_follow_readiness(cluster: Cluster) -> None:
    cluster.objects.create("services", service())
    cluster.objects.create(DEPLOYMENTS, deployment("web", 2))
    await cluster.until(lambda: len(ready_ips(cluster)) == 2)
    pod = cluster.pods()[0]
    name, ip = pod["metadata"]["name"], pod["status"]["podIP"]
    cluster.set_pod(name, "default", "Running", False)
    await cluster.until(lambda: waiting_ips(cluster) == [ip])
    assert len(ready_ips(cluster)) == 1
    cluster.set_pod(name, "default", "Running", True)
    await cluster.until(lambda: ip in ready_ips(cluster))
    (subset,) = subsets(cluster)
    assert subset["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    address = next(item for item in subset["addresses"] if item["ip"] == ip)
    assert address["nodeName"] == "labkit-test"
    assert (address["targetRef"]["kind"], address["targetRef"]["name"]) == ("Pod", name)


async def test_who_only_goes_is_no_cause_of_a_change(cluster: Cluster) -> None:
    trigger = "endpoints.kubernetes.io/last-change-trigger-time"
    cluster.objects.create("services", service())
    cluster.objects.create(DEPLOYMENTS, deployment("web", 2))
    await cluster.until(lambda: len(ready_ips(cluster)) == 2)
    found = (*slices(cluster), cluster.objects.get("endpoints", "web", "default"))
    assert all(trigger in one["metadata"]["annotations"] for one in found)
    cluster.objects.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 0}}, "default")
    await cluster.until(lambda: not ready_ips(cluster) and not slices(cluster)[0]["endpoints"])
    found = (*slices(cluster), cluster.objects.get("endpoints", "web", "default"))
    assert not any(trigger in (one["metadata"].get("annotations") or {}) for one in found)


async def test_a_name_outside_has_no_endpoints(cluster: Cluster) -> None:
    cluster.objects.create("services", service("far", type="ExternalName", externalName="example.com"))
    cluster.objects.create("services", service())
    await cluster.until(lambda: cluster.objects.find("endpoints", "web", "default"))
    await cluster.settled()
    assert cluster.objects.find("endpoints", "far", "default") is None
    assert slices(cluster, "far") == []


async def test_slices_tell_ready_serving_and_terminating(cluster: Cluster) -> None:
    cluster.node.kills = False
    cluster.objects.create("services", service())
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1))
    await cluster.until(lambda: ready_ips(cluster))
    (only,) = slices(cluster)
    assert only["metadata"]["generateName"] == "web-"
    assert only["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == "endpointslice-controller.k8s.io"
    assert [item["kind"] for item in only["metadata"]["ownerReferences"]] == ["Service"]
    assert only["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert only["endpoints"][0]["conditions"] == {"ready": True, "serving": True, "terminating": False}
    name = cluster.pods()[0]["metadata"]["name"]
    cluster.objects.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 0}}, "default")
    await cluster.until(lambda: not ready_ips(cluster))
    await cluster.settled()
    (endpoint,) = slices(cluster)[0]["endpoints"]
    assert endpoint["conditions"] == {"ready": False, "serving": True, "terminating": True}
    cluster.objects.delete("pods", name, "default", grace_period=0)
    await cluster.until(lambda: not slices(cluster)[0]["endpoints"])
    assert subsets(cluster) == []


async def test_named_ports_are_looked_up_in_each_pod(cluster: Cluster) -> None:
    ports = [
        {"name": "http", "port": 80, "targetPort": "web"},
        {"name": "admin", "port": 81, "targetPort": "admin"},
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "web"},
    ]
    cluster.objects.create("services", service(ports=ports))

    def with_port(name: str, *named: tuple[str, int]) -> Obj:
        spec = pod_spec()
        spec["containers"][0]["ports"] = [{"name": n, "containerPort": number} for n, number in named]
        return {"metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec}

    cluster.objects.create("pods", with_port("a", ("web", 8080), ("admin", 9000)), "default")
    cluster.objects.create("pods", with_port("b", ("web", 8081)), "default")
    cluster.objects.create("pods", with_port("none", ("other", 1)), "default")
    await cluster.until(lambda: len(ready_ips(cluster)) == 2)
    await cluster.settled()
    found = {
        address["targetRef"]["name"]: [(port["name"], port["port"]) for port in subset["ports"]]
        for subset in subsets(cluster)
        for address in subset["addresses"]
    }
    assert found == {"a": [("http", 8080), ("admin", 9000)], "b": [("http", 8081)]}
    assert len(slices(cluster)) == 2


async def test_not_ready_addresses_are_published_on_request(cluster: Cluster) -> None:
    cluster.node.ready = lambda _pod: False
    cluster.objects.create("services", service(publishNotReadyAddresses=True, clusterIP="None"))
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1))
    await cluster.until(lambda: ready_ips(cluster))
    await cluster.settled()
    found = cluster.objects.get("endpoints", "web", "default")
    assert found["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    assert slices(cluster)[0]["endpoints"][0]["conditions"] == {"ready": True, "serving": False, "terminating": False}


async def test_a_service_without_pods_has_empty_endpoints(cluster: Cluster) -> None:
    cluster.objects.create("services", service())
    await cluster.until(lambda: slices(cluster))
    assert subsets(cluster) == []
    assert slices(cluster)[0]["endpoints"] is None


async def test_finished_pods_are_no_endpoints(cluster: Cluster) -> None:
    cluster.objects.create("services", service())
    cluster.objects.create("pods", {"metadata": {"name": "p", "labels": {"app": "web"}}, "spec": pod_spec()}, "default")
    await cluster.until(lambda: ready_ips(cluster))
    cluster.set_pod("p", "default", "Succeeded", False)
    await cluster.until(lambda: not ready_ips(cluster))
    assert waiting_ips(cluster) == []


async def test_a_pod_leaves_when_its_labels_or_the_selector_change(cluster: Cluster) -> None:
    cluster.objects.create("services", service())
    for name in ("a", "b"):
        labels = {"app": "web", "version": name}
        cluster.objects.create("pods", {"metadata": {"name": name, "labels": labels}, "spec": pod_spec()}, "default")
    await cluster.until(lambda: len(ready_ips(cluster)) == 2)
    cluster.objects.patch("pods", "a", {"metadata": {"labels": {"app": "other"}}}, "default")
    await cluster.until(lambda: len(ready_ips(cluster)) == 1)
    cluster.objects.patch("services", "web", {"spec": {"selector": {"app": "other"}}}, "default")
    a = cluster.objects.get("pods", "a", "default")["status"]["podIP"]
    await cluster.until(lambda: ready_ips(cluster) == [a])


async def test_manual_endpoints_are_kept_and_mirrored(cluster: Cluster) -> None:
    manual = {
        "metadata": {"name": "db", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": "127.77.0.9"}], "ports": [{"name": "pg", "port": 5432, "protocol": "TCP"}]}],
    }
    cluster.objects.create("endpoints", manual)
    await cluster.settled()
    assert subsets(cluster, "db") == manual["subsets"]
    cluster.objects.create("services", service("db", selector={}))
    await cluster.until(lambda: slices(cluster, "db"))
    (only,) = slices(cluster, "db")
    assert only["endpoints"] == [{"addresses": ["127.77.0.9"], "conditions": {"ready": True}}]
    assert only["ports"] == [{"name": "pg", "port": 5432, "protocol": "TCP"}]
    label = only["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"]
    assert label == "endpointslicemirroring-controller.k8s.io"
    changed = cluster.objects.get("endpoints", "db", "default")
    changed["subsets"][0]["addresses"].append({"ip": "127.77.00.010"})
    cluster.objects.update("endpoints", changed)
    await cluster.until(lambda: len(slices(cluster, "db")[0]["endpoints"]) == 2)
    assert slices(cluster, "db")[0]["endpoints"][1]["addresses"] == ["127.77.0.10"], "a slice's are written plainly"
    cluster.objects.delete("services", "db", "default")
    await cluster.until(lambda: cluster.objects.find("endpoints", "db", "default") is None)
    await cluster.until(lambda: not slices(cluster, "db"))


async def test_deleting_a_service_takes_its_endpoints_along(cluster: Cluster) -> None:
    cluster.objects.create("services", service())
    cluster.objects.create(DEPLOYMENTS, deployment("web", 1))
    await cluster.until(lambda: ready_ips(cluster))
    cluster.objects.delete("services", "web", "default")
    await cluster.until(lambda: cluster.objects.find("endpoints", "web", "default") is None)
    await cluster.until(lambda: not slices(cluster))


async def test_endpoints_of_a_service_deleted_while_nobody_looked_go(tmp_path: Path) -> None:
    cluster = await Cluster(tmp_path / "home").start()
    cluster.objects.create("services", service())
    await cluster.until(lambda: cluster.objects.find("endpoints", "web", "default"))
    await cluster.controllers.stop()
    cluster.objects.delete("services", "web", "default")
    await cluster.restart()
    await cluster.until(lambda: cluster.objects.find("endpoints", "web", "default") is None)
    await cluster.stop()


async def test_endpoints_beyond_a_hundred_fill_further_slices(cluster: Cluster) -> None:
    cluster.objects.create("services", service())
    cluster.objects.create(DEPLOYMENTS, deployment("web", 120))
    await cluster.until(lambda: len(ready_ips(cluster)) == 120)
    await cluster.settled()
    assert sorted(len(item["endpoints"]) for item in slices(cluster)) == [20, 100]


async def test_load_balancers_stay_pending(cluster: Cluster) -> None:
    cluster.objects.create("services", service(type="LoadBalancer"))
    await cluster.settled()
    assert cluster.objects.get("services", "web", "default")["status"] == {"loadBalancer": {}}


def ingress(cluster: Cluster, name: str) -> list[Obj]:
    found = cluster.objects.get("services", name, "default")
    return list(found["status"]["loadBalancer"].get("ingress") or ())


async def test_load_balancers_get_addresses_on_request(tmp_path: Path) -> None:
    cluster = await Cluster(tmp_path / "home", loadbalancer=True).start()
    for name in ("a", "b"):
        cluster.objects.create("services", service(name, type="LoadBalancer"))
        await cluster.until(lambda name=name: ingress(cluster, name))
    cluster.objects.create("services", service("c", type="LoadBalancer", loadBalancerIP="127.77.8.77"))
    await cluster.until(lambda: ingress(cluster, "c"))
    assert [ingress(cluster, name)[0] for name in "abc"] == [
        {"ip": "127.77.8.1", "ipMode": "VIP"},
        {"ip": "127.77.8.2", "ipMode": "VIP"},
        {"ip": "127.77.8.77", "ipMode": "VIP"},
    ]
    assert cluster.events("EnsuredLoadBalancer") == ["Ensured load balancer"] * 3
    cluster.objects.delete("services", "a", "default")
    cluster.objects.patch("services", "b", {"spec": {"type": "ClusterIP"}}, "default")
    await cluster.until(lambda: ingress(cluster, "b") == [])
    cluster.objects.create("services", service("d", type="LoadBalancer"))
    await cluster.until(lambda: ingress(cluster, "d"))
    assert ingress(cluster, "d")[0]["ip"] == "127.77.8.1"
    await cluster.stop()


async def test_an_ordinary_user_is_told_where_a_load_balancers_low_ports_are(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "home", loadbalancer=True)
    force_setattr(cluster.settings.plan, "low_ports", False)
    await cluster.start()
    ports = [{"name": "http", "port": 80}, {"name": "alt", "port": 8080}, {"name": "https", "port": 443}]
    cluster.objects.create("services", service("a", type="LoadBalancer", ports=ports))
    await cluster.until(lambda: cluster.events("PortsMoved"))
    assert cluster.events("PortsMoved") == [
        "this user may not listen on ports below 1024: 80 at 127.77.8.1:20080, 443 at 127.77.8.1:20443"
    ]
    await cluster.stop()
