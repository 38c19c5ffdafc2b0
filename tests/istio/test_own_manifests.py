# SPDX-License-Identifier: Apache-2.0
"""Our own manifests carry the facts of the genuine ones: same objects, names, ports, labels, images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documents import documents

REPOSITORY = Path(__file__).parents[2]
OURS = REPOSITORY / "labkit/istio/manifests"
GENUINE = REPOSITORY.parent / "shared/releases"


RENDERED = {"release", "app.kubernetes.io/instance", "app.kubernetes.io/version", "helm.sh/chart"}
"""Labels that say how a chart was rendered (under which Helm release name), not what it is."""

NOT_IN_THE_COURSE = (
    "samples/bookinfo/platform/kube/bookinfo-",
    "samples/extauthz/",
    "samples/helloworld/",
    "samples/httpbin/sample-client/",
    "samples/tcp-echo/",
)
"""Where a release has samples that no lesson uses; of all others we must have a counterpart."""


def objects(path: Path) -> Iterator[dict[str, Any]]:
    for document in documents(path):
        if document["kind"] == "List":
            yield {**document, "items": None}
            yield from document["items"]
        else:
            yield document


def key(obj: dict[str, Any]) -> tuple[str, str, str, str]:
    return obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def pairs() -> list[Any]:
    """Each genuine manifest that we have a counterpart of."""
    found = []
    for release in ("1.2.2", "1.30.3"):
        genuine = GENUINE / f"istio-{release}"
        for path in sorted(genuine.rglob("*.yaml")):
            relative = path.relative_to(genuine)
            ours = OURS / release / relative
            if not ours.exists() and str(relative).startswith(NOT_IN_THE_COURSE):
                continue
            found.append(pytest.param(path, ours, id=f"{release}/{relative}"))
    return found or [pytest.param(None, None, marks=pytest.mark.skip(reason=f"no genuine manifests in {GENUINE}"))]


genuine_pairs = pytest.mark.parametrize(("genuine", "ours"), pairs())


def labels(meta: dict[str, Any] | None) -> dict[str, str]:
    found = {k: str(v) for k, v in ((meta or {}).get("labels") or {}).items()}
    return {k: v for k, v in found.items() if "app.kubernetes.io/managed-by" not in found or k not in RENDERED}


def service_port(port: dict[str, Any]) -> dict[str, Any]:
    return {"protocol": "TCP", "targetPort": port["port"], **port}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def facts(obj: dict[str, Any]) -> dict[str, Any]:
    """What a reader of kubectl's output, a selector or a client depends on."""
    spec = obj.get("spec") or {}
    found: dict[str, Any] = {"labels": labels(obj["metadata"])}
    match obj["kind"]:
        case "Service":
            found["type"] = spec.get("type", "ClusterIP")
            found["clusterIP"] = spec.get("clusterIP")
            found["selector"] = spec["selector"]
            found["ports"] = [service_port(p) for p in spec["ports"]]
            found["annotations"] = obj["metadata"].get("annotations") or {}
        case "Deployment" | "Job":
            template = spec["template"]
            pod = template["spec"]
            found["selector"] = spec.get("selector")
            found["replicas"] = spec.get("replicas", 1)
            found["pod labels"] = labels(template["metadata"])
            found["pod annotations"] = {
                k: v
                for k, v in (template["metadata"].get("annotations") or {}).items()
                if not k.startswith("checksum/")
            }
            found["service account"] = pod.get("serviceAccountName")
            found["containers"] = [
                {
                    "name": c["name"],
                    "image": c["image"],
                    "ports": [{"protocol": "TCP", **p} for p in c.get("ports", [])],
                    "env": sorted(e["name"] for e in c.get("env", [])),
                    "probes": {p: probe(c[p]) for p in ("readinessProbe", "livenessProbe", "startupProbe") if p in c},
                    "mounts": sorted((m["mountPath"], m["name"], m.get("subPath") or "") for m in c["volumeMounts"])
                    if c.get("volumeMounts")
                    else [],
                    "resources": c.get("resources"),
                }
                for c in containers(pod)
            ]
            found["volumes"] = sorted(pod.get("volumes", []), key=lambda v: v["name"])
        case "CustomResourceDefinition":
            found["group"] = spec["group"]
            found["scope"] = spec["scope"]
            found["names"] = spec["names"]
            versions = spec.get("versions") or [
                {"name": spec["version"], "additionalPrinterColumns": spec.get("additionalPrinterColumns", [])}
            ]
            found["versions"] = {
                v["name"]: {
                    "served": v.get("served"),
                    "storage": v.get("storage"),
                    "subresources": v.get("subresources"),
                    "columns": [
                        {k: x for k, x in column.items() if k != "description"}
                        for column in v.get("additionalPrinterColumns", [])
                    ],
                }
                for v in versions
            }
        case "ConfigMap":
            found["keys"] = sorted(obj["data"])
        case "Secret":
            found["data"] = obj["data"]
        case "ClusterRole" | "Role":
            found["rules"] = permissions(obj["rules"])
        case "ClusterRoleBinding" | "RoleBinding":
            found["roleRef"] = obj["roleRef"]
            found["subjects"] = obj["subjects"]
        case "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration":
            found["webhooks"] = obj["webhooks"]
        case "VirtualService":
            found["spec"] = {**spec, "http": [{k: v for k, v in route.items() if v} for route in spec["http"]]}
        case "ServiceAccount" | "Namespace" | "List":
            pass
        case _:
            found["spec"] = spec
    return found


def probe(raw: dict[str, Any]) -> dict[str, Any]:
    """A probe with the defaults of Kubernetes left out."""
    defaults = {"successThreshold": 1, "timeoutSeconds": 1, "initialDelaySeconds": 0, "failureThreshold": 3}
    shown = {k: v for k, v in raw.items() if defaults.get(k) != v}
    if "httpGet" in shown:
        shown["httpGet"] = {k: v for k, v in shown["httpGet"].items() if k != "scheme"}
    return shown


def permissions(rules: list[dict[str, Any]]) -> set[tuple[str, str, str, str]]:
    """The rules one by one, however they were grouped."""
    found = set()
    for rule in rules:
        names = rule.get("resourceNames") or [""]
        targets = [(g, r) for g in rule.get("apiGroups", []) for r in rule.get("resources", [])]
        targets += [("", url) for url in rule.get("nonResourceURLs", [])]
        found |= {(g, r, verb, name) for g, r in targets for verb in rule["verbs"] for name in names}
    return found


@pytest.mark.genuine
@genuine_pairs
def test_same_objects(genuine: Path, ours: Path) -> None:
    found = {key(o) for o in objects(ours)}
    # The genuine manifests of 1.30.3 leave the namespace to whoever applies them.
    assert sorted(found - {("v1", "Namespace", "", "istio-system")}) == sorted(
        key(o) for o in objects(genuine) if o["kind"] != "Namespace"
    )
    assert len(found) == len(list(objects(ours)))


@pytest.mark.genuine
@genuine_pairs
def test_same_facts(genuine: Path, ours: Path) -> None:
    expected = {key(o): facts(o) for o in objects(genuine)}
    found = {key(o): facts(o) for o in objects(ours)}
    for name, fact in expected.items():
        assert found[name] == fact, name


TYPED = [
    "authorizationpolicies",
    "destinationrules",
    "gateways",
    "peerauthentications",
    "requestauthentications",
    "serviceentries",
    "sidecars",
    "telemetries",
    "virtualservices",
    "workloadentries",
]


def fields(schema: dict[str, Any], path: str = "spec") -> Iterator[tuple[str, Any]]:
    """Each field with what decides whether a value is accepted."""
    names = (
        "type",
        "format",
        "enum",
        "required",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
    )
    names += ("maxProperties", "nullable", "pattern", "x-kubernetes-list-type", "x-kubernetes-list-map-keys")
    found = {n: sorted(schema[n]) if n in ("enum", "required") else schema[n] for n in names if n in schema}
    found["one of"] = sorted(x["required"][0] for x in schema.get("oneOf", []) if "required" in x)
    found["messages"] = {r["message"] for r in schema.get("x-kubernetes-validations", [])}
    yield path, found
    for name, child in schema.get("properties", {}).items():
        yield from fields(child, f"{path}.{name}")
    if "items" in schema:
        yield from fields(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from fields(schema["additionalProperties"], f"{path}.*")


@pytest.mark.genuine
@pytest.mark.parametrize("plural", TYPED)
def test_same_schema(plural: str) -> None:
    if not GENUINE.exists():
        pytest.skip(f"no genuine manifests in {GENUINE}")

    def schemas(root: Path) -> dict[str, dict[str, Any]]:
        crd = next(
            o
            for o in objects(root / "manifests/base.yaml")
            if o["kind"] == "CustomResourceDefinition" and o["spec"]["names"]["plural"] == plural
        )
        return {
            v["name"]: {
                **dict(fields(v["schema"]["openAPIV3Schema"]["properties"]["spec"])),
                "required": v["schema"]["openAPIV3Schema"].get("required"),
            }
            for v in crd["spec"]["versions"]
        }

    ours, genuine = schemas(OURS / "1.30.3"), schemas(GENUINE / "istio-1.30.3")
    assert ours.keys() == genuine.keys()
    for version, expected in genuine.items():
        assert ours[version].keys() == expected.keys()
        for path, fact in expected.items():
            assert ours[version][path] == fact, f"{version} {path}"


def prometheus_config(path: Path) -> dict[str, Any]:
    config = next(o for o in objects(path) if o["kind"] == "ConfigMap" and o["metadata"]["name"] == "prometheus")
    found: dict[str, Any] = yaml.safe_load(config["data"]["prometheus.yml"])
    return found


@pytest.mark.genuine
@pytest.mark.parametrize(
    ("release", "path"),
    [("1.2.2", "install/kubernetes/istio-demo.yaml"), ("1.30.3", "samples/addons/prometheus.yaml")],
)
def test_same_scrape_configuration(release: str, path: str) -> None:
    genuine = GENUINE / f"istio-{release}" / path
    if not genuine.exists():
        pytest.skip(f"no genuine manifests in {GENUINE}")
    ours, expected = prometheus_config(OURS / release / path), prometheus_config(genuine)
    jobs = {j["job_name"]: j for j in ours.pop("scrape_configs")}
    genuine_jobs = {j["job_name"]: j for j in expected.pop("scrape_configs")}
    assert jobs == genuine_jobs
    assert ours == expected
