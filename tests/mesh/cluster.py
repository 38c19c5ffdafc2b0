# SPDX-License-Identifier: Apache-2.0
"""The real object store, with what a release of Istio brings into it: its CRDs and its webhooks."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from meshbox.addresses import AddressPlan
from meshbox.api.objects import ObjectStore
from meshbox.api.options import WriteOptions
from meshbox.mesh.admission import MeshAdmission
from meshbox.mesh.webhooks import VALIDATING
from meshbox.settings import SandboxSettings
from meshbox.values import clone
from tests.conftest import REPOSITORY, TOKEN

Obj = dict[str, Any]

MANIFESTS = REPOSITORY / "labkit" / "istio" / "manifests"
GATEWAY_API = MANIFESTS / "gateway-api-1.5.1"
CRDS = "customresourcedefinitions.apiextensions.k8s.io"
CONTROL_PLANE = {"1.2.2": "install/kubernetes/istio-demo.yaml", "1.30.3": "manifests/istiod.yaml"}
BASE = {"1.2.2": "install/kubernetes/helm/istio-init/files/crd-*.yaml", "1.30.3": "manifests/base.yaml"}
"""A release's files, as patterns below its folder."""

NAMESPACES = ("istio-system", "bookinfo", "library", "other", "plain")
VALIDATOR = {"1.2.2": "istio-galley", "1.30.3": "istiod"}
"""The Service behind a release's validating webhook."""


@functools.cache
def manifests(folder: Path, pattern: str) -> list[Obj]:
    """All objects of a release's files; shared, so never change them."""
    files = sorted(folder.glob(pattern))
    return [obj for file in files for obj in yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader) if obj]


class Cluster(ObjectStore):
    """The objects of a sandbox; whatever is written meets the API's own checks and defaults, as a user's writes do.

    Args:
        home: The sandbox's folder.
        release: The Istio release whose CRDs are there.
        plan: The sandbox's addresses.
    """

    def __init__(self, home: Path, release: str, plan: AddressPlan | None = None) -> None:
        super().__init__(SandboxSettings("test", home, release, plan or AddressPlan(99), TOKEN))
        for name in NAMESPACES:
            self.create("namespaces", {"metadata": {"name": name}})
        for files in (BASE, CONTROL_PLANE):
            self.install("CustomResourceDefinition", CRDS, files)

    def install(self, kind: str, resource: str, files: dict[str, str], folder: Path | None = None) -> None:
        """Create the objects of `kind` in a release's `files`; `folder` has them (default: our own)."""
        release = self.settings.release
        for obj in manifests(folder or MANIFESTS / release, files[release]):
            if obj["kind"] == kind:
                self.put(resource, obj, "istio-system" if self.namespaced(resource) else None)

    def install_gateway_api(self, folder: Path = GATEWAY_API) -> None:
        """The definitions of the Gateway API; `folder` has them (default: our own)."""
        for obj in manifests(folder, "crds.yaml"):
            if obj["kind"] == "CustomResourceDefinition":
                self.put(CRDS, obj)

    def put(self, resource: str, obj: Obj, namespace: str | None = None) -> Obj:
        """Create or replace, as `kubectl apply` would; a status is reported by whoever runs the object."""
        known = self.resource(resource)
        meta = obj["metadata"]
        namespace = (meta.get("namespace") or namespace) if known.namespaced else None
        before = self.find(resource, meta["name"], namespace)
        given = {**obj, "metadata": {**meta, **({"namespace": namespace} if namespace else {})}}
        if before is None:
            done = self.create(resource, given, options=self._as_client(given, resource))
        else:
            given["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
            done = self.update(resource, given, options=self._as_client(given, resource))
        if obj.get("status") and "status" in known.subresources:
            done = self.update(resource, {**done, "status": {**done["status"], **obj["status"]}}, subresource="status")
        return done

    def admitted(self, resource: str, obj: Obj) -> Obj:
        """What `put` would store, without storing it."""
        options = self._as_client(obj, resource)
        options.dry_run = True
        return self.create(resource, obj, options=options)

    def _as_client(self, obj: Obj, resource: str) -> WriteOptions:
        account = (obj.get("spec") or {}).get("serviceAccountName") if resource == "pods" else None
        namespace = obj["metadata"].get("namespace") or "default"
        if account and self.find("namespaces", namespace) and not self.find("serviceaccounts", account, namespace):
            # A pod runs as one that exists; these tests are about others.
            token = [{"name": f"{account}-token-abcde"}] if self.settings.legacy else []
            self.create("serviceaccounts", {"metadata": {"name": account}, "secrets": token}, namespace)
        known = self.resource(resource)
        group, _, version = str(obj.get("apiVersion") or known.api_version).rpartition("/")
        served = self.registry.served(group, version, known.plural)
        assert served is not None, f"{obj.get('apiVersion')} {known.kind} is not served"
        return WriteOptions(validation="Strict", served=served)

    def keep(self, resource: str, obj: Obj) -> None:
        """Store what no API of today takes, as a journal of an older version may hold it."""
        meta = {"uid": f"uid-{self.store.version}", "creationTimestamp": "2020-01-01T00:00:00Z", **obj["metadata"]}
        key = meta.get("namespace", ""), meta["name"]
        self.store.put(resource, key, {**clone(obj), "metadata": meta})

    def drop(self, resource: str, name: str, namespace: str | None = None) -> None:
        """Delete at once; there is no node that would end a pod."""
        self.delete(resource, name, namespace, grace_period=0)

    def serve(self, service: str, addresses: list[Obj], ports: list[Obj], namespace: str = "istio-system") -> None:
        """What the endpoints' controller writes.

        Args:
            service: Whose.
            addresses: Each with its `ip`, and a `targetRef` and `hostname` where there are.
            ports: Each with its name and port.
            namespace: The Service's.
        """
        subsets = [{"addresses": addresses, "ports": ports}] if addresses and ports else []
        meta = {"name": service, "namespace": namespace}
        self.put("endpoints", {"metadata": meta, "subsets": subsets})
        if self.settings.legacy:
            # Kubernetes 1.14 knew no slices.
            return
        endpoints = [
            {
                "addresses": [one["ip"]],
                "conditions": {"ready": True},
                "targetRef": one.get("targetRef"),
                **({"hostname": one["hostname"]} if "hostname" in one else {}),
            }
            for one in addresses
        ]
        meta = {**meta, "name": f"{service}-x", "labels": {"kubernetes.io/service-name": service}}
        kept = {"metadata": meta, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}
        self.put("endpointslices.discovery.k8s.io", kept)

    def validate(self, admission: MeshAdmission | None = None) -> None:
        """Let Istio's webhooks refuse what they refuse, from now on."""
        release = self.settings.release
        self.add_admission(admission or MeshAdmission(self, self.settings))
        service = VALIDATOR[release]
        if self.find("services", service, "istio-system") is None:
            port = {"name": "https", "port": 443}
            self.put("services", {"metadata": {"name": service}, "spec": {"ports": [port]}}, "istio-system")
        self.serve(service, [{"ip": str(self.settings.plan.pod_cidr[-2])}], [{"name": "https", "port": 443}])
        if self.settings.legacy:
            self.put(VALIDATING, yaml.safe_load(galleys(MANIFESTS / release)))
        else:
            for files in (BASE, CONTROL_PLANE):
                self.install("ValidatingWebhookConfiguration", VALIDATING, files)

    @contextlib.contextmanager
    def unvalidated(self) -> Iterator[None]:
        """Without Istio's validating webhooks: somebody deleted them, or the release is just being installed."""
        hooks = self.list(VALIDATING)
        for hook in hooks:
            self.drop(VALIDATING, hook["metadata"]["name"])
        yield
        for hook in hooks:
            self.create(VALIDATING, hook)

    def warnings(self, name: str | None = None) -> list[str]:
        """What Warning events say about the objects called `name` (default: about all)."""
        return [
            event["message"]
            for event in self.list("events")
            if event["type"] == "Warning" and name in (None, event["involvedObject"]["name"])
        ]

    def forget_events(self) -> None:
        """Delete all events; one that comes again is a first one."""
        for event in self.list("events"):
            self.drop("events", event["metadata"]["name"], event["metadata"]["namespace"])


def galleys(folder: Path) -> str:
    """The registration that Galley of Istio 1.2 makes, as its ConfigMap holds it."""
    found = manifests(folder, CONTROL_PLANE["1.2.2"])
    config = next(obj for obj in found if (obj.get("metadata") or {}).get("name") == "istio-galley-configuration")
    return str(config["data"]["validatingwebhookconfiguration.yaml"])
