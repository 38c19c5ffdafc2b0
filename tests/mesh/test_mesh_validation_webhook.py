# SPDX-License-Identifier: Apache-2.0
"""How the API server asks Istio's webhooks, and passes on what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from meshbox.contracts import AdmissionRequest, ApiError
from meshbox.mesh.admission import MeshAdmission
from meshbox.mesh.kinds import VIRTUAL_SERVICES
from meshbox.mesh.webhooks import VALIDATING

from .cluster import Cluster

Obj = dict[str, Any]


def admission(objects: Cluster, *, ready: bool, policy: str = "Fail") -> tuple[MeshAdmission, AdmissionRequest]:
    service = {"name": "checker", "namespace": "istio-system", "path": "/validate"}
    rule = {
        "operations": ["CREATE", "UPDATE"],
        "apiGroups": ["networking.istio.io"],
        "apiVersions": ["*"],
        "resources": ["*"],
    }
    webhook = {
        "name": "pilot.validation.istio.io",
        "clientConfig": {"service": service},
        "rules": [rule],
        "failurePolicy": policy,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    port = {"name": "https", "port": 443}
    objects.put(VALIDATING, {"metadata": {"name": "checker"}, "webhooks": [webhook]})
    objects.put("services", {"metadata": {"name": "checker", "namespace": "istio-system"}, "spec": {"ports": [port]}})
    if ready:
        objects.serve("checker", [{"ip": "127.99.64.1"}], [port])
    meta = {"name": "x", "namespace": "bookinfo"}
    bad = {"kind": "VirtualService", "metadata": meta, "spec": {"hosts": ["a"], "http": [{}]}}
    request = AdmissionRequest("CREATE", VIRTUAL_SERVICES, "bookinfo", "x", bad)
    return MeshAdmission(objects, objects.settings), request


def test_a_denial_is_the_api_servers_and_names_the_webhook(cluster_of: Callable[[str], Cluster]) -> None:
    plugin, request = admission(cluster_of("1.2.2"), ready=True)
    with pytest.raises(ApiError) as refused:
        plugin.validate(request)
    assert refused.value.message == (
        'admission webhook "pilot.validation.istio.io" denied the request: configuration is invalid: '
        "HTTP route or redirect is required"
    )
    request.operation = "DELETE"
    plugin.validate(request)


def test_without_its_pod_a_webhook_fails_or_is_ignored_as_registered(cluster_of: Callable[[str], Cluster]) -> None:
    objects = cluster_of("1.30.3")
    plugin, request = admission(objects, ready=False)
    with pytest.raises(ApiError) as refused:
        plugin.validate(request)
    assert refused.value.code == 500
    assert 'failed calling webhook "pilot.validation.istio.io"' in refused.value.message
    plugin, request = admission(objects, ready=False, policy="Ignore")
    plugin.validate(request)
