# SPDX-License-Identifier: Apache-2.0
"""When Galley registers its webhook: once it can be called, and not before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from meshbox.mesh import webhooks
from meshbox.mesh.galley import Galley
from tests.conftest import PATIENCE

from .cluster import Cluster

CONFIGURATION = """
apiVersion: admissionregistration.k8s.io/v1beta1
kind: ValidatingWebhookConfiguration
metadata: {name: istio-galley}
webhooks:
- name: pilot.validation.istio.io
  clientConfig: {service: {name: istio-galley, namespace: istio-system, path: /admitpilot}, caBundle: ''}
"""
WHERE = {"name": "istio-galley", "namespace": "istio-system"}


def installed(objects: Cluster) -> None:
    """What Galley waits for, but endpoints of its Service."""
    objects.put("clusterroles.rbac.authorization.k8s.io", {"metadata": {"name": "istio-galley-istio-system"}})
    data = {"validatingwebhookconfiguration.yaml": CONFIGURATION}
    name = {"name": "istio-galley-configuration", "namespace": "istio-system"}
    objects.put("configmaps", {"metadata": name, "data": data})
    objects.put("services", {"metadata": WHERE, "spec": {"ports": [{"name": "https", "port": 443}]}})
    objects.serve("istio-galley", [], [])
    ready = {"type": "Ready", "status": "True"}
    pod = {"name": "istio-galley-1", "namespace": "istio-system", "labels": {"istio": "galley"}}
    spec = {"containers": [{"name": "galley", "image": "istio/galley"}]}
    objects.put("pods", {"metadata": pod, "spec": spec, "status": {"conditions": [ready]}})


async def test_a_webhook_is_registered_once_it_can_be_called(cluster_of: Callable[[str], Cluster]) -> None:
    objects = cluster_of("1.2.2")
    installed(objects)
    galley = Galley(objects)
    galley.start()
    try:
        # The pod is ready; but as long as its Service leads nowhere every write would be refused.
        for _ in range(20):
            await asyncio.sleep(0)
        assert objects.find(webhooks.VALIDATING, "istio-galley") is None
        objects.serve("istio-galley", [{"ip": "127.99.64.1"}], [{"name": "https", "port": 443}])
        deadline = time.monotonic() + PATIENCE
        while (found := objects.find(webhooks.VALIDATING, "istio-galley")) is None:
            assert time.monotonic() < deadline, "nothing was registered"
            await asyncio.sleep(0.002)
    finally:
        await galley.stop()
    assert found["webhooks"][0]["admissionReviewVersions"] == ["v1beta1"]
    assert found["metadata"]["ownerReferences"][0]["name"] == "istio-galley-istio-system"
