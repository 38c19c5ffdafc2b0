# SPDX-License-Identifier: Apache-2.0
"""A control plane of a revision: its settings, its injector, and who says that a proxy is its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.mesh.debug_pages import PAGES, About
from meshbox.mesh.mesh_config import settings_in
from meshbox.mesh.proxies import ProxyState
from meshbox.mesh.settings import settings_warnings

from .objects import pod as a_pod
from .objects import snapshot
from .telling import Listener
from .test_mesh_injection import Installed, inject, installed, named, pod, source

__all__ = ["installed", "source"]

Obj = dict[str, Any]

ROOT = "istio-system"


def settings(name: str, revision: str, mesh: str = "") -> Obj:
    return {"metadata": {"name": name, "namespace": ROOT, "labels": {"istio.io/rev": revision}}, "data": {"mesh": mesh}}


def istiod(name: str, revision: str) -> Obj:
    kind = "pilot" if revision == "default" else "istiod"
    made = a_pod(name, "127.99.64.60", namespace=ROOT, role="", istio=kind)
    made["metadata"]["labels"] |= {"istio.io/rev": revision}
    return made


@pytest.mark.parametrize(
    ("there", "holds"),
    [
        ([("istio-canary", "canary"), ("istio", "default")], "istio"),
        ([("istio-canary", "canary"), ("istio-ca-root-cert", "")], "istio-canary"),
        ([("istio-canary", "other")], None),
    ],
)
def test_whose_settings_hold(there: list[tuple[str, str]], holds: str | None) -> None:
    found = settings_in([settings(*one) for one in there])
    assert (found["metadata"]["name"] if found else None) == holds


def test_settings_that_wait_for_others_to_go_are_said() -> None:
    (said,) = settings_warnings(settings("istio-canary", "canary"), legacy=False)
    assert said.startswith("in the sandbox proxies of all revisions of Istio have the settings of ConfigMap istio")
    assert settings_warnings(settings("istio", "default"), legacy=False) == []


def test_a_mesh_goes_by_the_settings_and_pods_of_the_only_revision_that_there_is() -> None:
    made = istiod("istiod-canary-1", "canary")
    made["spec"]["containers"][0]["env"] = [{"name": "PILOT_HTTP10", "value": "1"}]
    kept = {"configmaps": [settings("istio-canary", "canary", "accessLogFile: /dev/stdout")]}
    found = snapshot(pods=[made], kept=kept).mesh
    assert (found.access_log, found.http10) == (True, True)


def test_a_sidecar_is_what_the_revision_of_its_injector_says(installed: Installed) -> None:
    objects = installed("1.30.3")
    (own,) = [one for one in objects.list("configmaps", ROOT) if one["metadata"]["name"] == "istio-sidecar-injector"]
    values = json.loads(own["data"]["values"])
    values["revision"] = "canary"
    values["global"] |= {"tag": "1.31.0"}
    data = {"config": own["data"]["config"], "values": json.dumps(values)}
    objects.put("configmaps", {"metadata": {"name": "istio-sidecar-injector-canary"}, "data": data}, ROOT)
    selector = {"app": "istiod", "istio.io/rev": "canary"}
    spec = {"selector": selector, "ports": [{"port": 443}]}
    objects.put("services", {"metadata": {"name": "istiod-canary"}, "spec": spec}, ROOT)
    objects.serve("istiod-canary", [{"ip": "127.99.64.2"}], [{"port": 443}], ROOT)
    resource = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
    (hook,) = objects.list(resource)
    first = {**hook["webhooks"][0], "namespaceSelector": {"matchLabels": {"istio.io/rev": "canary"}}}
    first["objectSelector"] = {}
    first["clientConfig"] = {"service": {"name": "istiod-canary", "namespace": ROOT, "path": "/inject"}}
    objects.put(resource, {"metadata": {"name": "istio-sidecar-injector-canary"}, "webhooks": [first]})
    objects.put("namespaces", {"metadata": {"name": "new", "labels": {"istio.io/rev": "canary"}}})
    found = inject(objects, pod(), "new")
    proxy = found["spec"]["initContainers"][1]
    assert proxy["image"].endswith("/proxyv2:1.31.0")
    assert found["metadata"]["annotations"]["istio.io/rev"] == "canary"
    assert "istiod-canary.istio-system.svc:15012" in json.dumps(proxy["env"])
    before = inject(objects, pod())
    assert named(before["spec"]["initContainers"]) == ["istio-init", "istio-proxy"]
    assert before["spec"]["initContainers"][1]["image"].endswith("/proxyv2:1.30.3")


def injected(name: str, revision: str) -> Obj:
    made = a_pod(name, "127.99.64.61")
    made["metadata"]["annotations"] = {"istio.io/rev": revision}
    return made


@pytest.mark.parametrize(
    ("asker", "shown"),
    [
        ("istiod-1", ["old-1.bookinfo"]),
        ("istiod-canary-1", ["new-1.bookinfo"]),
        ("", ["new-1.bookinfo", "old-1.bookinfo"]),
    ],
)
def test_each_istiod_says_which_proxies_are_its_own(asker: str, shown: list[str]) -> None:
    pods = [istiod("istiod-1", "default"), istiod("istiod-canary-1", "canary")]
    pods += [injected("new-1", "canary"), injected("old-1", "default")]
    proxies = {}
    for name in ("new-1", "old-1"):
        state = proxies["bookinfo", name] = ProxyState(("bookinfo", name), lambda *_: None)
        state.opened(Listener(), f"sidecar~10.0.0.1~{name}.bookinfo~x", {})
    about = About(None, snapshot(pods=pods), proxies, "1.30.3")  # type: ignore[arg-type]
    query = {"namespace": ROOT, "pod": asker} if asker else {}
    assert [one["proxy"] for one in PAGES["syncz"][1](about, query)] == shown
    assert [one["connectionId"] for one in PAGES["connections"][1](about, query)["clients"]] == shown
