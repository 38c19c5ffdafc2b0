# SPDX-License-Identifier: Apache-2.0
"""DestinationRules: hosts and subsets that are not there, servers that prove nothing; ServiceEntries' addresses."""

from __future__ import annotations

from collections.abc import Iterator

from labkit.cluster import Obj
from labkit.ground.hosts import fqdn
from labkit.ground.labels import selects
from labkit.istio.analyze.world import Said, World, full, labels, name, namespace

__all__ = ["destination_rules", "service_entries"]

_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


def destination_rules(world: World) -> Iterator[Said]:
    """What is wrong with them."""
    nodes = {name(one): labels(one) for one in world.all("Node")}
    pods = [_with_node(pod, nodes) for pod in world.all("Pod")]
    for item in world.all("DestinationRule"):
        spec, where = item["spec"], namespace(item)
        host = fqdn(spec.get("host") or "", where)
        yield from _unproven(item)
        if not world.hosts.has(host, where):
            yield Said(item, "IST0174", (spec.get("host") or "",))
            continue
        chosen = (world.behind(host, where) or {"spec": {}})["spec"]
        # A Service says it by its selector, a ServiceEntry by its own.
        base = chosen.get("selector") or (chosen.get("workloadSelector") or {}).get("labels") or {}
        for subset in spec.get("subsets") or []:
            wanted = {**base, **(subset.get("labels") or {})}
            if not any(selects(wanted, have) for have in pods):
                yield Said(item, "IST0173", (subset.get("name") or "",))


def _with_node(pod: Obj, nodes: dict[str, dict[str, str]]) -> dict[str, str]:
    """A pod's labels, and where its node says that it is."""
    node = pod["spec"].get("nodeName") or ""
    there = {key: nodes[node][key] for key in _TOPOLOGY if nodes[node].get(key)} if node in nodes else {}
    return {**labels(pod), **there, **({"kubernetes.io/hostname": node} if node in nodes else {})}


def _unproven(item: Obj) -> Iterator[Said]:
    """Connections with TLS whose server may be anybody."""
    spec = item["spec"]
    policy = spec.get("trafficPolicy") or {}
    about = full(item), namespace(item)
    # Certificates named by a credential are given to the workloads that the rule selects.
    named = bool((spec.get("workloadSelector") or {}).get("matchLabels"))

    def open_to_all(tls: Obj) -> bool:
        proven = tls.get("caCertificates") or (named and tls.get("credentialName"))
        return tls.get("mode") in ("SIMPLE", "MUTUAL") and not proven

    tls = policy.get("tls") or {}
    if open_to_all(tls):
        yield Said(item, "IST0128", (*about, tls["mode"], spec.get("host") or ""))
    for level in policy.get("portLevelSettings") or []:
        tls = level.get("tls") or {}
        if open_to_all(tls):
            port = f"number:{(level.get('port') or {}).get('number', 0)}"
            yield Said(item, "IST0129", (*about, tls["mode"], spec.get("host") or "", port))


def service_entries(world: World) -> Iterator[Said]:
    """ServiceEntries whose connections bear no name, and that have no address to be known by."""
    meta = world.mesh.get("defaultConfig")
    meta = meta.get("proxyMetadata") if isinstance(meta, dict) else None
    said = {str(key): str(value).lower() for key, value in meta.items()} if isinstance(meta, dict) else {}
    allocated = said.get("ISTIO_META_DNS_CAPTURE") == "true" and "true" in (
        said.get("ISTIO_META_DNS_AUTO_ALLOCATE"),
        said.get("PILOT_ENABLE_IP_AUTOALLOCATE"),
    )
    for item in world.all("ServiceEntry"):
        if allocated or item["spec"].get("addresses") or (item.get("status") or {}).get("addresses"):
            continue
        for port in item["spec"].get("ports") or []:
            if (port.get("protocol") or "").upper() in ("", "TCP"):
                yield Said(item, "IST0134")
