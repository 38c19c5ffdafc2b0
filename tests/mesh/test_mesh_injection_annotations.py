# SPDX-License-Identifier: Apache-2.0
"""What a pod's annotations, ProxyConfig objects and the injector's ConfigMap change in what is injected."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbox.contracts import AdmissionRequest, ApiError
from meshbox.interception import Interception
from meshbox.mesh.admission import MeshAdmission
from meshbox.mesh.notices import notices

from .cluster import Cluster
from .test_mesh_injection import Installed, asked, inject, installed, named, pod, source

__all__ = ["installed", "source"]

Obj = dict[str, Any]
TRAFFIC = "traffic.sidecar.istio.io/"
CONFIG = "proxy.istio.io/config"


def annotated(**annotations: str) -> Obj:
    """A pod with annotations, whose names are given as they are."""
    return pod(meta={"annotations": annotations})


def proxy_of(found: Obj) -> Obj:
    spec = found["spec"]
    return next(c for c in [*spec.get("initContainers", []), *spec["containers"]] if c["name"] == "istio-proxy")


def flags(found: Obj) -> Interception:
    return Interception.of(found["spec"])


def env_of(container: Obj) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in container["env"]}


def test_what_is_left_alone_stands_in_the_arguments(source: Any, installed: Installed) -> None:
    given = {
        f"{TRAFFIC}includeOutboundIPRanges": "10.0.0.0/8",
        f"{TRAFFIC}excludeOutboundIPRanges": "10.1.0.0/16",
        f"{TRAFFIC}includeOutboundPorts": "9090",
        f"{TRAFFIC}excludeOutboundPorts": "8000,8001",
        f"{TRAFFIC}includeInboundPorts": "80,81",
        f"{TRAFFIC}excludeInboundPorts": "81",
    }
    for release in ("1.2.2", "1.30.3"):
        found = flags(inject(installed(release, source(release)), annotated(**given)))
        assert [found.takes_inbound(port) for port in (80, 81, 82, 15020)] == [True, False, False, False]
        assert found.takes_outbound("10.2.0.1", 1)
        assert not found.takes_outbound("10.1.0.1", 1)
        assert not found.takes_outbound("10.2.0.1", 8001)
        assert not found.takes_outbound("9.9.9.9", 1)
        # Istio 1.2 knew no such annotation.
        assert found.takes_outbound("9.9.9.9", 9090) is (release == "1.30.3")
    init = inject(installed("1.30.3", source("1.30.3")), annotated(**given))["spec"]["initContainers"][0]
    assert init["args"][init["args"].index("-d") + 1] == "15090,15021,81,15020"


def test_without_annotations_all_but_the_proxys_own_ports_is_taken(installed: Installed) -> None:
    found = flags(inject(installed("1.30.3"), pod()))
    assert found.written() == ""
    assert found.takes_inbound(9080)
    assert found.takes_outbound("9.9.9.9", 443)
    old = flags(inject(installed("1.2.2"), pod()))
    assert (old.takes_inbound(9080), old.takes_inbound(9081)) == (True, False)
    assert Interception.read(old.written()) == old


@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
def test_nothing_is_intercepted_in_mode_none(release: str, installed: Installed) -> None:
    found = inject(installed(release), annotated(**{"sidecar.istio.io/interceptionMode": "NONE"}))
    assert "istio-init" not in named(found["spec"].get("initContainers") or [])
    assert not flags(found).takes_outbound("10.0.0.1", 80)
    assert flags(found).leaves(9080)
    assert not flags(found).leaves(15020)


def test_the_proxys_settings_reach_it(source: Any, installed: Installed) -> None:
    objects = installed("1.30.3", source("1.30.3"))
    objects.put(
        "proxyconfigs.networking.istio.io",
        {
            "metadata": {"name": "mine", "namespace": "bookinfo"},
            "spec": {"concurrency": 7, "environmentVariables": {"FOO": "cr"}, "image": {"imageType": "debug"}},
        },
    )
    other = {"selector": {"matchLabels": {"app": "other"}}, "concurrency": 9}
    objects.put("proxyconfigs.networking.istio.io", {"metadata": {"name": "o", "namespace": "bookinfo"}, "spec": other})
    config = "proxyMetadata: {FOO: annotation, BAR: x}\nconcurrency: 3\nterminationDrainDuration: 9s\n"
    found = inject(objects, annotated(**{CONFIG: config}))
    for container in found["spec"]["initContainers"]:
        assert (env_of(container)["FOO"], env_of(container)["BAR"]) == ("cr", "x")
        assert container["image"].endswith(":1.30.3-debug")
    told = json.loads(env_of(proxy_of(found))["PROXY_CONFIG"])
    assert (told["concurrency"], told["terminationDrainDuration"]) == (7, "9s")
    assert "discoveryAddress" not in told, "what is Istio's own is not told"
    plain = inject(installed("1.30.3"), pod())
    assert env_of(proxy_of(plain))["PROXY_CONFIG"] == "{}\n"


def test_the_application_can_be_held_until_the_proxy_is_there(installed: Installed) -> None:
    given = {"sidecar.istio.io/nativeSidecar": "false"}
    late = inject(installed("1.30.3"), annotated(**given))["spec"]
    assert (named(late["containers"]), named(late["initContainers"])) == (["details", "istio-proxy"], ["istio-init"])
    held = annotated(**given, **{CONFIG: '{"holdApplicationUntilProxyStarts": true}'})
    first = inject(installed("1.30.3"), held)["spec"]
    assert named(first["containers"]) == ["istio-proxy", "details"]
    wait = {"postStart": {"exec": {"command": ["pilot-agent", "wait"]}}}
    assert first["containers"][0]["lifecycle"] == wait


def test_the_control_plane_says_whether_sidecars_are_native(installed: Installed) -> None:
    objects = installed("1.30.3")
    container = {"name": "discovery", "image": "x", "env": [{"name": "ENABLE_NATIVE_SIDECARS", "value": "false"}]}
    template = {"metadata": {"labels": {"app": "istiod"}}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": {"app": "istiod"}}, "template": template}
    objects.put("deployments.apps", {"metadata": {"name": "istiod", "namespace": "istio-system"}, "spec": spec})
    assert named(inject(objects, pod())["spec"]["containers"]) == ["details", "istio-proxy"]
    own = inject(objects, annotated(**{"sidecar.istio.io/nativeSidecar": "true"}))["spec"]
    assert named(own["containers"]) == ["details"]


def test_a_container_of_ones_own_is_laid_over_the_injected_one(source: Any, installed: Installed) -> None:
    own = {
        "name": "istio-proxy",
        "image": "auto",
        "args": ["proxy", "sidecar", "--mine"],
        "resources": {"limits": {"cpu": "3"}, "requests": {"cpu": "1"}},
        "env": [{"name": "ISTIO_META_CLUSTER_ID", "value": "mine"}, {"name": "NEW", "value": "1"}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "15"]}}},
    }
    given = pod()
    given["spec"]["containers"].append(own)
    given["spec"]["volumes"] = [{"name": "v", "emptyDir": {}}]
    plain = proxy_of(inject(installed("1.30.3", source("1.30.3")), pod()))
    found = inject(installed("1.30.3", source("1.30.3")), given)
    assert named(found["spec"]["containers"]) == ["details"]
    proxy = found["spec"]["initContainers"][1]
    assert (proxy["image"], proxy["restartPolicy"]) == (plain["image"], "Always")
    assert proxy["args"] == ["proxy", "sidecar", "--mine"]
    assert proxy["resources"] == {
        "limits": {**plain["resources"]["limits"], "cpu": "3"},
        "requests": {**plain["resources"]["requests"], "cpu": "1"},
    }
    assert (env_of(proxy)["ISTIO_META_CLUSTER_ID"], env_of(proxy)["NEW"]) == ("mine", "1")
    assert [one["name"] for one in proxy["env"][1:]] == [one["name"] for one in plain["env"]]
    assert "/v" in [one["mountPath"] for one in proxy["volumeMounts"]]
    assert len(proxy["volumeMounts"]) >= len(plain["volumeMounts"]) + 1
    assert proxy["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "15"]
    kept = json.loads(found["metadata"]["annotations"]["proxy.istio.io/overrides"])
    assert [(one["name"], "image" in one) for one in kept["initContainers"]] == [("istio-proxy", False)]
    status = json.loads(found["metadata"]["annotations"]["sidecar.istio.io/status"])
    assert status["initContainers"] == ["istio-init", "istio-proxy"]


def test_templates_are_chosen_by_name(installed: Installed) -> None:
    objects = installed("1.30.3")
    gate = {"metadata": {"name": "gate", "annotations": {"inject.istio.io/templates": "gateway"}}}
    found = inject(objects, {**gate, "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]}})
    assert "initContainers" not in found["spec"]
    (proxy,) = found["spec"]["containers"]
    assert proxy["args"][:2] == ["proxy", "router"]
    assert proxy["image"].endswith("/proxyv2:1.30.3")
    assert found["metadata"]["labels"]["service.istio.io/canonical-name"] == "gate"
    assert found["spec"]["securityContext"]["sysctls"][0]["name"] == "net.ipv4.ip_unprivileged_port_start"
    with pytest.raises(ApiError, match=r'requested template "mine" not found; have agentgateway, gateway, '):
        inject(objects, annotated(**{"inject.istio.io/templates": "sidecar,mine"}))
    with pytest.raises(ApiError, match='template "grpc-agent" is not played by this sandbox'):
        inject(objects, annotated(**{"inject.istio.io/templates": "grpc-agent"}))


def settings(objects: Cluster, text: str) -> None:
    """Write switches before the injector's own."""
    injector = objects.get("configmaps", "istio-sidecar-injector", "istio-system")
    objects.put("configmaps", {**injector, "data": {**injector["data"], "config": text}})


def test_the_injectors_own_settings_count(installed: Installed) -> None:
    objects = installed("1.30.3")
    hello = "    spec:\n      containers:\n      - name: istio-proxy\n        env: [{name: GREETING, value: hello}]\n"
    go = "    spec: {hostname: '{{ .ObjectMeta.Name }}'}\n"
    settings(
        objects,
        "policy: disabled\ninjectedAnnotations: {a: b}\naliases: {both: [sidecar, hello]}\n"
        f"alwaysInjectSelector: [{{matchLabels: {{app: details}}}}]\ntemplates:\n  hello: |\n{hello}  go: |\n{go}",
    )
    given = {"inject.istio.io/templates": "both", "sidecar.istio.io/nativeSidecar": "false"}
    found = inject(objects, annotated(**given))
    assert found["metadata"]["annotations"]["a"] == "b"
    assert env_of(proxy_of(found))["GREETING"] == "hello"
    with pytest.raises(ApiError, match=r'template "go" cannot be filled in by this sandbox, as it has {{ .ObjectMeta'):
        inject(objects, annotated(**{"inject.istio.io/templates": "go"}))
    other = pod()
    other["metadata"]["labels"] = {"app": "other"}
    assert inject(objects, other) == asked(objects, other)
    settings(objects, "policy: sometimes\n")
    assert inject(objects, pod()) == asked(objects, pod()), "no such policy: nothing is injected"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("sidecar.istio.io/interceptionMode", "MAYBE", "interceptionMode invalid, use REDIRECT,TPROXY,NONE: MAYBE"),
        (f"{TRAFFIC}excludeOutboundPorts", "80,x", "excludeOutboundPorts invalid: failed parsing port 'x'"),
        (f"{TRAFFIC}includeOutboundIPRanges", "10.0.0.1", "includeIPRanges invalid: failed parsing cidr '10.0.0.1'"),
        (CONFIG, "{nope: 1}", 'failed to convert to apply proxy config: unknown field "nope"'),
        ("prometheus.istio.io/merge-metrics", "maybe", 'strconv.ParseBool: parsing "maybe": invalid syntax'),
        ("readiness.status.sidecar.istio.io/periodSeconds", "-1", 'strconv.ParseUint: parsing "-1": invalid syntax'),
    ],
)
def test_what_is_no_value_is_refused_in_istios_words(installed: Installed, name: str, value: str, words: str) -> None:
    with pytest.raises(ApiError) as refused:
        inject(installed("1.30.3"), annotated(**{name: value}))
    start = 'admission webhook "namespace.sidecar-injector.istio.io" denied the request: '
    assert refused.value.message.startswith(f"{start}failed to run injection template: 1 error occurred:\n\t* invalid")
    assert f"invalid value '{value}' for annotation '{name}': {words}" in refused.value.message


@pytest.mark.parametrize(
    ("owner", "version", "name", "known_as"),
    [
        ("Job", "batch/v1", "nightly-29000001", ("nightly", "batch/v1/namespaces/bookinfo/cronjobs/nightly")),
        ("Job", "batch/v1", "once-1", ("once-1", "batch/v1/namespaces/bookinfo/jobs/once-1")),
        ("StatefulSet", "apps/v1", "db", ("db", "apps/v1/namespaces/bookinfo/statefulsets/db")),
        ("Book", "example.com/v2", "one", ("one", "example.com/v2/namespaces/bookinfo/books/one")),
    ],
)
def test_what_a_pod_is_of(owner: str, version: str, name: str, known_as: tuple[str, str], installed: Installed) -> None:
    ref = {"apiVersion": version, "kind": owner, "name": name, "uid": "1", "controller": True}
    env = env_of(proxy_of(inject(installed("1.30.3"), pod(meta={"labels": {}, "ownerReferences": [ref]}))))
    assert (env["ISTIO_META_WORKLOAD_NAME"], env["ISTIO_META_OWNER"]) == (
        known_as[0],
        f"kubernetes://apis/{known_as[1]}",
    )


@pytest.mark.parametrize(("user", "left"), [({"runAsUser": 1234}, "1234"), ({"runAsUser": 0}, "1337"), ({}, "1337")])
def test_what_is_left_alone_is_what_the_proxy_sends_as_whoever_it_runs(
    user: Obj, left: str, installed: Installed
) -> None:
    own = {"name": "istio-proxy", "image": "auto", "securityContext": {"runAsGroup": 1, **user}}
    found = inject(installed("1.30.3"), pod(containers=[*pod()["spec"]["containers"], own]))["spec"]
    arguments = found["initContainers"][0]["args"]
    assert arguments[arguments.index("-u") + 1] == left


def test_probes_that_are_led_to_the_proxy(installed: Installed) -> None:
    container = {
        "name": "web",
        "image": "x",
        "startupProbe": {"grpc": {"port": 9090, "service": "s"}},
        "livenessProbe": {"exec": {"command": ["true"]}},
        "readinessProbe": {"httpGet": {"path": "/r", "port": 8080, "scheme": "HTTPS"}},
        "lifecycle": {"preStop": {"httpGet": {"path": "/stop", "port": 8080}}},
    }
    found = inject(installed("1.30.3"), pod(containers=[container]))
    web = found["spec"]["containers"][0]
    assert web["startupProbe"]["httpGet"]["path"] == "/app-health/web/startupz"
    assert "grpc" not in web["startupProbe"]
    assert web["readinessProbe"]["httpGet"] == {"path": "/app-health/web/readyz", "port": 15020, "scheme": "HTTP"}
    assert web["lifecycle"]["preStop"]["httpGet"]["path"] == "/app-lifecycle/web/prestopz"
    assert web["livenessProbe"]["exec"] == {"command": ["true"]}
    probers = json.loads(env_of(proxy_of(found))["ISTIO_KUBE_APP_PROBERS"])
    assert probers["/app-health/web/startupz"] == {"grpc": {"port": 9090, "service": "s"}, "timeoutSeconds": 1}
    assert probers["/app-health/web/readyz"]["httpGet"]["scheme"] == "HTTPS"
    assert probers["/app-lifecycle/web/prestopz"] == {"httpGet": {"path": "/stop", "port": 8080, "scheme": "HTTP"}}
    given = {"annotations": {f"{TRAFFIC}excludeInboundPorts": "8080"}}
    left = inject(installed("1.30.3"), pod(meta=given, containers=[container]))["spec"]["containers"][0]
    assert left["readinessProbe"]["httpGet"]["path"] == "/r"
    off = {"annotations": {"sidecar.istio.io/rewriteAppHTTPProbers": "false"}}
    plain = inject(installed("1.30.3"), pod(meta=off, containers=[container]))["spec"]["containers"][0]
    assert plain["readinessProbe"]["httpGet"]["path"] == "/r"
    old = inject(installed("1.2.2"), pod(containers=[container]))
    assert old["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/r"
    on = {"annotations": {"sidecar.istio.io/rewriteAppHTTPProbers": "true"}}
    mended = inject(installed("1.2.2"), pod(meta=on, containers=[container]))
    assert mended["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/app-health/web/readyz"
    probers = json.loads(env_of(proxy_of(mended))["ISTIO_KUBE_APP_PROBERS"])
    assert probers == {"/app-health/web/readyz": {"path": "/r", "port": 8080, "scheme": "HTTPS"}}


def test_the_applications_own_metrics_are_told_to_the_proxy(installed: Installed) -> None:
    given = {"prometheus.io/port": "9080", "prometheus.io.path": "/m"}
    found = inject(installed("1.30.3"), annotated(**given))
    told = json.loads(env_of(proxy_of(found))["ISTIO_PROMETHEUS_ANNOTATIONS"])
    assert told == {"scrape": "", "path": "/m", "port": "9080"}
    annotations = found["metadata"]["annotations"]
    assert (annotations["prometheus.io/port"], annotations["prometheus.io/path"]) == ("15020", "/stats/prometheus")
    assert "prometheus.io.path" not in annotations
    for off in ({"prometheus.io/scrape": "false"}, {"prometheus.istio.io/merge-metrics": "false"}):
        assert "prometheus.io/port" not in inject(installed("1.30.3"), annotated(**off))["metadata"]["annotations"]


def said(objects: Cluster, obj: Obj, namespace: str = "bookinfo") -> list[str]:
    shown = asked(objects, obj, namespace)
    request = AdmissionRequest("CREATE", "pods", namespace, shown["metadata"]["name"], shown, dry_run=True)
    MeshAdmission(objects, objects.settings).mutate(request)
    return request.warnings


def test_what_is_not_played_is_said(installed: Installed) -> None:
    objects = installed("1.30.3")
    given = {f"{TRAFFIC}kubevirtInterfaces": "net1", CONFIG: "privateKeyProvider: {}\nreadinessProbe: {a: 1}\n"}
    words = said(objects, annotated(**given))
    assert [text.split(" is not played")[0] for text in words] == [
        f"annotation {TRAFFIC}kubevirtInterfaces",
        f"field readinessProbe of annotation {CONFIG}",
    ]
    assert said(objects, annotated(**{CONFIG: "tracing: {sampling: 10, zipkin: {address: 'a:1'}}"})) == []
    misspelt = {"sidecar.istio.io/proxyCpu": "1", "sidecar.istio.io/logLevel": "debug"}
    (word,) = said(objects, annotated(**misspelt))
    assert word == "annotation sidecar.istio.io/proxyCpu changes nothing: Istio has no such annotation"
    of_a_gateway = annotated(**given)
    of_a_gateway["metadata"]["labels"] = {"gateway.networking.k8s.io/gateway-name": "door"}
    assert said(objects, of_a_gateway, "plain") == words
    assert said(objects, annotated(**given), "plain") == []
    old = said(installed("1.2.2"), annotated(**misspelt))
    assert old[0] == "annotation sidecar.istio.io/logLevel changes nothing: Istio 1.2 has no such annotation"
    template = {"metadata": {"annotations": given}}
    deployment = {"metadata": {"name": "d"}, "spec": {"template": template}}
    request = AdmissionRequest("CREATE", "deployments.apps", "bookinfo", "d", deployment)
    MeshAdmission(objects, objects.settings).mutate(request)
    assert request.warnings == words


def test_a_revision_that_nobody_serves_is_said(installed: Installed) -> None:
    objects = installed("1.30.3")
    objects.put("namespaces", {"metadata": {"name": "canary", "labels": {"istio.io/rev": "canary"}}})
    (words,) = said(objects, pod(), "canary")
    assert words == (
        'no sidecar: namespace canary asks for revision "canary" of Istio, and no injector serves that; '
        "there is default"
    )
    assert named(inject(objects, pod(), "canary")["spec"]["containers"]) == ["details"]
    objects.put("namespaces", {"metadata": {"name": "canary", "labels": {"istio.io/rev": "default"}}})
    assert said(objects, pod(), "canary") == []
    assert named(inject(objects, pod(), "canary")["spec"]["initContainers"]) == ["istio-init", "istio-proxy"]
    out = pod()
    out["metadata"]["labels"] |= {"istio.io/rev": "x", "sidecar.istio.io/inject": "false"}
    assert said(objects, out, "plain") == []


def test_what_istiod_is_told_in_vain_is_said(installed: Installed) -> None:
    objects = installed("1.30.3")
    asked = {"EXTERNAL_CA": "ISTIOD_RA_KUBERNETES_API", "PILOT_CERT_PROVIDER": "k8s.io/mine", "CLUSTER_ID": "here",
             "PILOT_ENABLE_ANALYSIS": "false", "PILOT_HTTP10": "true", "CERT_SIGNER_DOMAIN": ""}  # fmt: skip
    istiod = pod()
    istiod["metadata"]["labels"] = {"istio": "pilot", "sidecar.istio.io/inject": "false"}
    istiod["spec"]["containers"][0]["env"] = [{"name": name, "value": value} for name, value in asked.items()]
    words = [f"istiod's variable {name} is not played by this sandbox" for name in list(asked)[:2]]
    assert said(objects, json.loads(json.dumps(istiod))) == words
    deployment = {"metadata": {"name": "d"}, "spec": {"template": istiod}}
    request = AdmissionRequest("CREATE", "deployments.apps", "istio-system", "d", deployment)
    MeshAdmission(objects, objects.settings).mutate(request)
    assert request.warnings == words
    values = objects.get("configmaps", "istio-sidecar-injector", "istio-system")
    given = json.loads(values["data"]["values"])
    given["global"]["caAddress"] = "signer.mine.svc:443"
    objects.put("configmaps", {**values, "data": {**values["data"], "values": json.dumps(given)}})
    assert said(objects, annotated(**{CONFIG: "proxyMetadata: {ISTIO_META_CERT_SIGNER: mine, A: b}"})) == [
        f"field proxyMetadata.ISTIO_META_CERT_SIGNER of annotation {CONFIG} is not played by this sandbox: "
        "the mesh has one authority",
        "signer.mine.svc:443 (values.global.caAddress) is not asked: the mesh has one authority",
    ]
    chosen: Obj = {"metadata": {"name": "c"}, "spec": {"environmentVariables": {"A": "b", "CA_ADDR": "mine"}}}
    assert list(notices("proxyconfigs.networking.istio.io", chosen, legacy=False)) == [
        "spec.environmentVariables.CA_ADDR has no effect in the sandbox: the mesh has one authority"
    ]
