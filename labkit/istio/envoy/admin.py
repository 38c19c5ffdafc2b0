# SPDX-License-Identifier: Apache-2.0
"""Which Envoy stands beside a workload, and what it says of itself at its admin port: asked by a port-forward."""

from __future__ import annotations

import contextlib
import difflib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from labkit import cluster
from labkit.cluster import Obj
from labkit.ground.errors import ClusterError, SettingError
from labkit.istio.releases import NAMESPACE

__all__ = ["GATEWAYS", "Admin", "Proxy", "find", "has_proxy", "nearest", "of_pod"]

GATEWAYS = {"ingress": "istio-ingressgateway", "egress": "istio-egressgateway"}
"""Short names of Istio's own gateways, which stand in namespace istio-system."""

CONTAINER = "istio-proxy"
_PORT = 15000
_PATIENCE = 15.0
"""Seconds without a byte of an answer."""

_OF_GATEWAY = "gateway.networking.k8s.io/gateway-name"
"""Label of the pods that Istio makes for a Gateway of the Gateway API."""

_KINDS = ("deploy", "deployment", "pod", "statefulset", "daemonset", "svc", "service")


@dataclass(frozen=True)
class Proxy:
    """A pod's Envoy.

    Args:
        namespace: The pod's.
        pod: Its name.
        workload: What made it, "reviews-v1"; the pod itself where nothing did.
        app: Its label `app`; "" without.
        ip: Its address.
        account: Its service account.
        uid: The pod's.
        ports: Its containers' ports by name.
        twins: How many other pods of this workload run with a proxy.
        gateway: Whether it is a gateway, and no sidecar: what comes from outside comes to it.
    """

    namespace: str
    pod: str
    workload: str
    app: str
    ip: str
    account: str
    uid: str
    ports: tuple[tuple[str, int], ...] = ()
    twins: int = 0
    gateway: bool = False

    @property
    def identity(self) -> str:
        """The SPIFFE id that Istio gives to its service account, in the mesh's usual trust domain."""
        return f"spiffe://cluster.local/ns/{self.namespace}/sa/{self.account}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The question whether a known name was meant; "" where none is like it."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(near)}? " if near else ""


def has_proxy(pod: Obj) -> bool:
    """Whether one of a pod's containers is Istio's proxy."""
    spec = pod["spec"]
    return any(one["name"] == CONTAINER for one in (*spec["containers"], *(spec.get("initContainers") or [])))


def running(pod: Obj) -> bool:
    """Whether a pod runs and nobody has deleted it."""
    return pod.get("status", {}).get("phase") == "Running" and not pod["metadata"].get("deletionTimestamp")


def of_pod(pod: Obj, twins: int = 0) -> Proxy:
    """The proxy of a pod."""
    meta, spec, workload = pod["metadata"], pod["spec"], workload_of(pod)
    ports = [port for one in spec["containers"] for port in one.get("ports") or []]
    return Proxy(
        meta["namespace"],
        meta["name"],
        workload,
        _labels(pod).get("app", ""),
        pod.get("status", {}).get("podIP", ""),
        spec.get("serviceAccountName") or "default",
        meta.get("uid", ""),
        tuple((port.get("name", ""), int(port["containerPort"])) for port in ports),
        twins,
        _OF_GATEWAY in _labels(pod) or (meta["namespace"] == NAMESPACE and workload in GATEWAYS.values()),
    )


def workload_of(pod: Obj) -> str:
    """What made a pod: the Deployment behind its ReplicaSet, another owner, or the pod itself."""
    owner = next(iter(pod["metadata"].get("ownerReferences") or []), None)
    if owner is None:
        return str(pod["metadata"]["name"])
    name = str(owner["name"])
    return name.rpartition("-")[0] or name if owner["kind"] == "ReplicaSet" else name


def _labels(pod: Obj) -> dict[str, str]:
    return pod["metadata"].get("labels") or {}


def find(name: str, namespace: str) -> Proxy:
    """The proxy of a workload: of its ready pods the youngest.

    Args:
        name: A Deployment ("reviews-v1", "deploy/reviews-v1"), an app ("reviews"), a pod, a Service; or "ingress" and
            "egress" for Istio's gateways.
        namespace: Where, unless it is one of Istio's gateways.

    Raises:
        SettingError: There is none of that name; says which there are.
        ClusterError: The cluster does not answer, or no pod of it runs with a proxy.
    """
    kind, slash, rest = name.strip().partition("/")
    asked = rest if slash and kind.lower() in _KINDS else name.strip()
    if asked in GATEWAYS or asked in GATEWAYS.values():
        asked, namespace = GATEWAYS.get(asked, asked), NAMESPACE
    pods = [pod for pod in cluster.get("pods", namespace=namespace) if has_proxy(pod)]
    by_name: dict[str, list[Obj]] = {}
    for pod in pods:
        for known in {pod["metadata"]["name"], workload_of(pod), _labels(pod).get("app", "")} - {""}:
            by_name.setdefault(known, []).append(pod)
    if asked not in by_name:
        by_name |= {asked: found} if (found := _behind(asked, namespace, pods)) else {}
    if asked not in by_name:
        raise _unknown(asked, namespace, by_name, bool(pods))
    there = [pod for pod in by_name[asked] if running(pod)]
    if not there:
        raise ClusterError(
            f"no pod of {asked} in namespace {namespace} runs",
            next_step=f"`kubectl get pods -n {namespace}` and `istio.diagnose()` say why.",
        )
    chosen = max(there, key=lambda pod: (_ready(pod), pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
    return of_pod(chosen, len(there) - 1)


def _ready(pod: Obj) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _behind(name: str, namespace: str, pods: list[Obj]) -> list[Obj]:
    """The pods that a Service of this name selects."""
    for service in cluster.get("services", name, namespace=namespace):
        selector = service["spec"].get("selector") or {}
        return [pod for pod in pods if selector and selector.items() <= _labels(pod).items()]
    return []


def _unknown(name: str, namespace: str, known: dict[str, list[Obj]], any_there: bool) -> SettingError | ClusterError:
    if not any_there:
        return ClusterError(
            f"no pod in namespace {namespace} has Istio's proxy",
            next_step="BookInfo comes with 02-bookinfo; `istio.diagnose()` says where sidecars are missing.",
        )
    every = sorted({workload_of(pod) for pods in known.values() for pod in pods})
    return SettingError(
        f"no workload {name!r} with Istio's proxy in namespace {namespace}",
        next_step=f"{nearest(name, known)}There are {', '.join(every)}; `ingress` and `egress` are Istio's gateways.",
    )


class Admin:
    """A connection to an Envoy's admin port, which answers what it is and does; use it in a `with` block.

    Args:
        proxy: Whose.

    Raises:
        ClusterError: The pod is not there, or does not run.
    """

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        # Imported when something is asked: it takes milliseconds, and labkit is imported by every command.
        from labkit.ground.client import Connections

        self._forward = cluster.port_forward(f"pod/{proxy.pod}", _PORT, namespace=proxy.namespace, show=False)
        self._connections = Connections("127.0.0.1", self._forward.port, _PATIENCE)
        self.ahead = 0.0
        """Seconds that the proxy's clock is ahead of ours for certain; below 0 it is behind."""

    def __enter__(self) -> Admin:
        return self

    def __exit__(self, *_: object) -> None:
        self._connections.close()
        # Its port is closed at once; to wait until its thread has noticed would cost each look half a second.
        self._forward.end()

    def bytes(self, page: str, *, method: str = "GET") -> bytes:
        """A page, as it comes; "POST" for one that changes something.

        Raises:
            ClusterError: Envoy does not answer, or not with this page.
        """
        where = f"the Envoy of pod {self._proxy.namespace}/{self._proxy.pod}"
        step = f"`kubectl get pod {self._proxy.pod} -n {self._proxy.namespace}`: is its container {CONTAINER} ready?"
        asked = time.time()
        try:
            answer = self._connections.request(method, page, {"Host": f"localhost:{_PORT}"})
        except OSError as error:
            raise ClusterError(f"{where} does not answer at its port {_PORT}: {error}", next_step=step) from None
        if answer.status != 200:
            raise ClusterError(f"{where} answers {answer.status} to {page}: {answer.text[:200]}", next_step=step)
        self._compare(answer.header("date"), asked)
        return answer.body

    def _compare(self, date: str, asked: float) -> None:
        """Note how far its clock is ahead at least, since its answer was made after the question and before now."""
        from email.utils import parsedate_to_datetime

        with contextlib.suppress(ValueError):
            said = parsedate_to_datetime(date).timestamp()
            self.ahead = max(said - time.time(), 0.0) + min(said + 1.0 - asked, 0.0)

    def json(self, page: str) -> Any:
        """A page of JSON; errors as of `bytes`."""
        try:
            return json.loads(self.bytes(page))
        except ValueError:
            raise ClusterError(
                f"{page} of the Envoy of pod {self._proxy.namespace}/{self._proxy.pod} is no JSON",
                next_step="Does something else listen at port 15000 of that pod?",
            ) from None
