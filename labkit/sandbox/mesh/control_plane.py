"""What Istio's own components write into the cluster while they are up: identities, trust, and their webhook's
registration.
"""

from __future__ import annotations

import base64
import logging
from typing import Any

import yaml
from cryptography import x509

from labkit.sandbox.contracts import ApiError, Obj, Objects
from labkit.sandbox.mesh import webhooks
from labkit.sandbox.mesh.certificates import Authority
from labkit.sandbox.reconcile import Key, Reconciler
from labkit.sandbox.settings import SandboxSettings

__all__ = ["ControlPlane", "component_ready"]

log = logging.getLogger(__name__)

ROOT = "istio-system"
TRUST = "istio-ca-root-cert"
CITADEL_TYPE = "istio.io/key-and-cert"

_RENEW = 3600.0
"""Seconds between looks at certificates that may be near their end."""


def component_ready(objects: Objects, labels: str) -> bool:
    """Whether a pod of Istio's with these labels is ready."""
    return any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for pod in objects.list("pods", ROOT, labels=labels)
        for condition in (pod.get("status") or {}).get("conditions") or []
    )


class ControlPlane:
    """Plays Citadel's and Galley's writes in Istio 1.2, istiod's today.

    Args:
        objects: The cluster's objects.
        settings: The sandbox.
        authority: Signs identities.
    """

    def __init__(self, objects: Objects, settings: SandboxSettings, authority: Authority) -> None:
        self._objects = objects
        self._authority = authority
        self._reconcilers: list[Reconciler] = []
        if settings.legacy:
            identities = Reconciler("citadel", objects, self._identity)
            identities.watches("serviceaccounts").watches("pods", self._accounts_of_citadel)
            galley = Reconciler("galley", objects, self._registration)
            galley.watches("pods", lambda pod: self._if_labelled(pod, "galley", (None, "istio-galley")))
            self._reconcilers = [identities, galley]
        else:
            trust = Reconciler("istiod", objects, self._trust)
            trust.watches("namespaces", lambda namespace: [(None, namespace["metadata"]["name"])])
            trust.watches("configmaps", self._namespace_of_trust)
            trust.watches("pods", self._namespaces_of_istiod)
            self._reconcilers = [trust]

    def start(self) -> None:
        """Begin."""
        for reconciler in self._reconcilers:
            reconciler.start()

    async def stop(self) -> None:
        """End."""
        for reconciler in self._reconcilers:
            await reconciler.stop()

    @staticmethod
    def _if_labelled(pod: Obj, component: str, key: Key) -> list[Key]:
        labels = pod["metadata"].get("labels") or {}
        return [key] if labels.get("istio") == component and pod["metadata"].get("namespace") == ROOT else []

    def _accounts_of_citadel(self, pod: Obj) -> list[Key]:
        if not self._if_labelled(pod, "citadel", (None, "")):
            return []
        accounts = self._objects.list("serviceaccounts")
        return [(a["metadata"]["namespace"], a["metadata"]["name"]) for a in accounts]

    def _namespaces_of_istiod(self, pod: Obj) -> list[Key]:
        if not self._if_labelled(pod, "pilot", (None, "")):
            return []
        return [(None, namespace["metadata"]["name"]) for namespace in self._objects.list("namespaces")]

    @staticmethod
    def _namespace_of_trust(config_map: Obj) -> list[Key]:
        meta = config_map["metadata"]
        return [(None, meta["namespace"])] if meta["name"] == TRUST else []

    async def _identity(self, key: Key) -> float | None:
        """The Secret with a service account's key and certificate."""
        namespace, account = key
        if not component_ready(self._objects, "istio=citadel"):
            return None
        if self._objects.find("serviceaccounts", account, namespace) is None:
            return None
        name = f"istio.{account}"
        known = self._objects.find("secrets", name, namespace)
        if known is not None and self._is_current(known):
            return _RENEW
        identity = self._authority.issue(f"spiffe://cluster.local/ns/{namespace}/sa/{account}")
        files = {"cert-chain.pem": identity.chain, "key.pem": identity.key, "root-cert.pem": self._authority.root}
        data = {file: base64.b64encode(text.encode()).decode() for file, text in files.items()}
        if known is not None:
            self._objects.update("secrets", {**known, "data": data}, manager="citadel")
            return _RENEW
        meta = {"name": name, "annotations": {"istio.io/service-account.name": account}}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": CITADEL_TYPE, "data": data}
        self._create("secrets", secret, namespace, "citadel")
        return _RENEW

    def _is_current(self, secret: Obj) -> bool:
        data: dict[str, str] = secret.get("data") or {}
        try:
            root = base64.b64decode(data.get("root-cert.pem", "")).decode()
            leaf = x509.load_pem_x509_certificate(base64.b64decode(data.get("cert-chain.pem", "")))
        except ValueError:
            return False
        return root == self._authority.root and not self._authority.near_end(leaf)

    async def _trust(self, key: Key) -> float | None:
        """The ConfigMap by which pods of a namespace know the mesh's authority."""
        namespace = key[1]
        found = self._objects.find("namespaces", namespace)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return None
        if not component_ready(self._objects, "istio=pilot"):
            return None
        data = {"root-cert.pem": self._authority.root}
        known = self._objects.find("configmaps", TRUST, namespace)
        if known is None:
            meta = {"name": TRUST, "labels": {"istio.io/config": "true"}}
            config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
            self._create("configmaps", config_map, namespace, "pilot-discovery")
        elif known.get("data") != data:
            self._objects.update("configmaps", {**known, "data": data}, manager="pilot-discovery")
        return None

    async def _registration(self, key: Key) -> float | None:
        """Galley's registration of its webhook, which it takes from a ConfigMap; it goes with Galley's ClusterRole."""
        if not component_ready(self._objects, "istio=galley"):
            return None
        role = self._objects.find("clusterroles.rbac.authorization.k8s.io", f"istio-galley-{ROOT}")
        source = self._objects.find("configmaps", "istio-galley-configuration", ROOT)
        text = ((source or {}).get("data") or {}).get("validatingwebhookconfiguration.yaml")
        if role is None or not text or self._objects.find(webhooks.VALIDATING, "istio-galley") is not None:
            return None
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            registration = yaml.load(text, Loader=loader)
        except yaml.YAMLError as error:
            log.warning("the webhook configuration in ConfigMap istio-galley-configuration is not YAML: %s", error)
            return None
        owner = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "uid": role["metadata"]["uid"]}
        registration["metadata"]["ownerReferences"] = [{**owner, "name": role["metadata"]["name"]}]
        self._create(webhooks.VALIDATING, registration, None, "galley")
        return None

    def _create(self, resource: str, obj: Obj, namespace: str | None, manager: str) -> None:
        try:
            self._objects.create(resource, obj, namespace, manager=manager)
        except ApiError as error:
            # Somebody else was quicker, or the namespace is on its way out: both are as good.
            if error.code not in (403, 404, 409):
                raise
