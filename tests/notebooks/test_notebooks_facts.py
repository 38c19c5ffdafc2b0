# SPDX-License-Identifier: Apache-2.0
"""What the lessons' text says of the releases is what the genuine manifests say."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections import defaultdict
from functools import cache
from typing import Any

import nbformat
import pytest
import yaml

from labkit.course.folder import unlinked
from labkit.ground import config
from tests.conftest import REPOSITORY, genuine

FILES = {"1.2.2": "install/kubernetes/helm/istio-init/files/crd*.yaml", "1.30.3": "manifests/base.yaml"}
COLUMNS = {"1.2.2": 1, "1.30.3": 2}
DEMO = {"1.2.2": "install/kubernetes/istio-demo.yaml", "1.30.3": "manifests/*.yaml"}
INSTALLED = {"1.2.2": [DEMO["1.2.2"]], "1.30.3": [DEMO["1.30.3"], "samples/addons/*.yaml"]}
NUMBERS = {"five": 5, "seven": 7, "fifteen": 15}


def text(notebook: str, cell: str) -> str:
    """What a cell says, without where its words lead."""
    cells = nbformat.read(REPOSITORY / "notebooks" / f"{notebook}.ipynb", 4).cells
    return unlinked(next(str(one.source) for one in cells if one.id == cell))


def kinds(release: str) -> dict[str, dict[str, set[str]]]:
    """API group → the version that one would write today → kinds."""
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for file in genuine(release).glob(FILES[release]):
        for one in yaml.safe_load_all(file.read_text()):
            if one and one["kind"] == "CustomResourceDefinition" and one["spec"]["group"].endswith("istio.io"):
                spec = one["spec"]
                versions = [v["name"] for v in spec.get("versions") or [] if v["served"]] or [spec["version"]]
                # v1 comes before v1beta1, and that before v1alpha3.
                best = min(versions, key=lambda v: (v != "v1", "beta" not in v, v))
                found[spec["group"]][best].add(spec["names"]["kind"])
    return {group: dict(by_version) for group, by_version in found.items()}


def told(release: str) -> tuple[dict[str, dict[str, set[str]]], int]:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text("01-install-istio", "crds-then-and-now").splitlines()
        if line.startswith("|")
    ][2:]
    found: dict[str, dict[str, set[str]]] = {}
    count = 0
    for row in rows:
        said = row[COLUMNS[release]]
        if row[0] == "**together**":
            count = int(re.match(r"\d+", said)[0])  # type: ignore[index]
        elif said:
            parts = (part.partition(":") for part in said.replace("Mixer's ", "").split(";"))
            found[row[0].strip("`")] = {
                version.strip(" `"): {name.strip() for name in names.split(",")} for version, _, names in parts
            }
    return found, count


@pytest.mark.genuine
@pytest.mark.parametrize("release", FILES)
def test_the_table_of_kinds(release: str) -> None:
    found, count = told(release)
    assert found == kinds(release)
    assert count == sum(len(names) for versions in found.values() for names in versions.values())


@cache
def objects(release: str, pattern: str = "") -> list[dict[str, Any]]:
    """Everything that installing the release with its add-ons applies; with a pattern what those files hold."""
    patterns = [pattern] if pattern else INSTALLED[release]
    found: list[dict[str, Any]] = []
    for file in sorted(file for one in patterns for file in genuine(release).glob(one)):
        for document in yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader):
            found += document["items"] if document and document["kind"] == "List" else [document] if document else []
    return found


def named(release: str, kind: str, name: str) -> dict[str, Any]:
    return next(one for one in objects(release) if (one["kind"], one["metadata"]["name"]) == (kind, name))


def of_kind(release: str, kind: str, pattern: str = "") -> list[dict[str, Any]]:
    return [one for one in objects(release, pattern) if one["kind"] == kind]


def deployments_with(release: str, label: str) -> list[str]:
    """The Deployments whose pods have this label, as `kubectl get pod -l` finds them."""
    key, _, value = label.partition("=")
    return [
        one["metadata"]["name"]
        for one in of_kind(release, "Deployment")
        if one["spec"]["template"]["metadata"]["labels"].get(key) == value
    ]


@pytest.mark.genuine
@pytest.mark.parametrize("release", FILES)
@pytest.mark.parametrize(
    ("notebook", "cell", "service", "deployments"),
    [
        ("04-prometheus", "port-forward-explained", "prometheus", {"prometheus"}),
        ("05-grafana", "open-it-explained", "grafana", {"grafana"}),
        ("06-jaeger", "spans-explained", "tracing", {"istio-tracing", "jaeger"}),
        ("07-kiali", "port-forward-explained", "kiali", {"kiali"}),
    ],
)
def test_the_port_forwards_to_consoles(
    release: str, notebook: str, cell: str, service: str, deployments: set[str]
) -> None:
    said = text(notebook, cell)
    label, port = re.findall(r"get pod -l (\S+) .*? \d+:(\d+)", said, re.DOTALL)[0]
    if release == "1.30.3" and (other := re.search(r"1\.30\.3 the (?:pod's )?label is\s+`(.*?)`", said)):
        label = other[1]
    (name,) = deployments_with(release, label)
    assert name in deployments
    ports = named(release, "Service", service)["spec"]["ports"]
    assert int(port) in {one.get("targetPort", one["port"]) for one in ports}


@pytest.mark.genuine
def test_which_api_versions_hold_the_old_release_back() -> None:
    said = text("00-kubernetes", "skew-explained")
    crds, webhook, httpbin = re.findall(r"`([\w.]+/\w+)`", said)
    then = objects("1.2.2") + objects("1.2.2", "samples/httpbin/httpbin.yaml")
    assert {one["apiVersion"] for one in then if one["kind"] == "CustomResourceDefinition"} == {crds}
    assert {one["apiVersion"] for one in then if one["kind"].endswith("WebhookConfiguration")} == {webhook}
    (deployment,) = of_kind("1.2.2", "Deployment", "samples/httpbin/httpbin.yaml")
    assert deployment["apiVersion"] == httpbin
    assert {one["apiVersion"] for one in objects("1.30.3")}.isdisjoint({crds, webhook, httpbin})
    assert {one["apiVersion"] for one in of_kind("1.2.2", "Deployment")} == {"apps/v1"}, "Istio's own would do"


@pytest.mark.genuine
def test_what_httpbin_is_made_of() -> None:
    said = text("00-kubernetes", "first-application")
    kinds = {release: [one["kind"] for one in objects(release, "samples/httpbin/httpbin.yaml")] for release in FILES}
    assert re.findall(r"\*\*(\w+)\*\*", said) == kinds["1.30.3"] == ["ServiceAccount", "Service", "Deployment"]
    assert "In 1.2.2 there is no ServiceAccount" in said
    assert kinds["1.2.2"] == ["Service", "Deployment"]


@pytest.mark.genuine
def test_what_the_demo_profile_brings() -> None:
    assert "are part of it in 1.2.2; today they are\nmanifests of their own, in `samples/addons`" in text(
        "01-install-istio", "demo-explained"
    )
    addons = {"prometheus", "grafana", "kiali"}
    demo = {
        release: {one["metadata"]["name"] for one in of_kind(release, "Deployment", DEMO[release])} for release in DEMO
    }
    assert addons <= demo["1.2.2"]
    assert demo["1.30.3"] == {"istiod", "istio-ingressgateway", "istio-egressgateway"}
    assert addons <= {one["metadata"]["name"] for one in of_kind("1.30.3", "Deployment", "samples/addons/*.yaml")}
    said = re.search(r"(\w+) pods became (\w+)", text("01-install-istio", "mixer-explained"))
    assert said
    pods = {release: len(of_kind(release, "Deployment")) + len(of_kind(release, "Job")) for release in FILES}
    assert pods == {"1.2.2": NUMBERS[said[1].lower()], "1.30.3": NUMBERS[said[2]]}
    two = {one["metadata"]["name"] for one in of_kind("1.2.2", "Deployment") if len(containers(one)) == 2}
    assert {"istio-policy", "istio-telemetry"} <= two
    assert {image(one) for one in of_kind("1.2.2", "Deployment") if one["metadata"]["name"] in two} == {
        "docker.io/istio/mixer:1.2.2",
        "docker.io/istio/pilot:1.2.2",
    }


def containers(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"]
    return found


def image(deployment: dict[str, Any]) -> str:
    return str(containers(deployment)[0]["image"])


@pytest.mark.genuine
def test_which_service_has_no_address_and_which_asks_for_one_outside() -> None:
    said = re.search(r"In 1\.2\.2 `([\w-]+)` says `None`", text("01-install-istio", "services-explained"))
    assert said
    headless = {
        release: [s["metadata"]["name"] for s in of_kind(release, "Service") if s["spec"].get("clusterIP") == "None"]
        for release in FILES
    }
    assert headless == {"1.2.2": [said[1]], "1.30.3": []}
    for release in FILES:
        outside = [
            s["metadata"]["name"] for s in of_kind(release, "Service") if s["spec"].get("type") == "LoadBalancer"
        ]
        assert outside == ["istio-ingressgateway"]
        ports = named(release, "Service", "istio-ingressgateway")["spec"]["ports"]
        assert {"http2", "https"} <= {port["name"] for port in ports}


@pytest.mark.genuine
@pytest.mark.parametrize("release", FILES)
def test_what_the_gateway_opens(release: str) -> None:
    said = re.search(r"is (\d+) in 1\.2\.2 and (\d+) in 1\.30\.3", text("03-ingress", "gateway-port"))
    assert said
    sample = "samples/bookinfo/networking/bookinfo-gateway.yaml"
    (gateway,) = of_kind(release, "Gateway", sample)
    assert gateway["spec"]["servers"][0]["port"]["number"] == int(said[COLUMNS[release]])
    ports = named(release, "Service", "istio-ingressgateway")["spec"]["ports"]
    reached = next(port for port in ports if port["name"] == "http2")
    assert reached["port"] == 80
    assert reached["targetPort"] == int(said[COLUMNS[release]])
    (rule,) = of_kind(release, "VirtualService", sample)
    paths = sum(len(route["match"]) for route in rule["spec"]["http"])
    assert "here five paths, all to `productpage`" in text("03-ingress", "gateway-explained")
    assert paths == NUMBERS["five"]
    assert {to["destination"]["host"] for route in rule["spec"]["http"] for to in route["route"]} == {"productpage"}


@pytest.mark.genuine
def test_who_counts_and_how_often() -> None:
    said = text("04-prometheus", "who-reports")
    job, port, service = re.findall(r"job `([\w-]+)`, port (\d+) of `([\w-]+)`", said)[0]
    every = re.findall(r"a scrape every (\d+) s", said)[0]
    config = {
        release: yaml.safe_load(named(release, "ConfigMap", "prometheus")["data"]["prometheus.yml"])
        for release in FILES
    }
    assert {one["global"]["scrape_interval"] for one in config.values()} == {f"{every}s"}
    mesh = next(one for one in config["1.2.2"]["scrape_configs"] if one["job_name"] == job)
    asked, name = mesh["relabel_configs"][0]["regex"].split(";")
    assert asked == service
    ports = {one["name"]: one["port"] for one in named("1.2.2", "Service", service)["spec"]["ports"]}
    assert ports[name] == int(port)
    assert job not in [one["job_name"] for one in config["1.30.3"]["scrape_configs"]]


@pytest.mark.genuine
@pytest.mark.parametrize("release", FILES)
def test_the_clock_of_a_request_has_the_unit_that_is_told(release: str) -> None:
    said = dict(
        re.findall(r"`(istio_request_duration_\w+)` in (1[\d.]+\d)", text("04-prometheus", "latency-explained"))
    )
    (name,) = [metric for metric, of in said.items() if of == release]
    boards = [data for one in of_kind(release, "ConfigMap") for key, data in (one.get("data") or {}).items()
              if "mesh-dashboard" in key]  # fmt: skip
    assert len(boards) == 1
    assert f"{name}_bucket" in boards[0]


@pytest.mark.genuine
@pytest.mark.parametrize("release", FILES)
def test_which_dashboards_there_are_and_whom_they_ask(release: str) -> None:
    boards = {
        (board := json.loads(data))["title"]: board
        for one in of_kind(release, "ConfigMap")
        for key, data in (one.get("data") or {}).items()
        if key.endswith("-dashboard.json")
    }
    assert len(boards) == 7
    assert {f"Istio {name} Dashboard" for name in ("Mesh", "Service", "Workload", "Performance")} <= set(boards)
    told = dict(
        zip(("1.30.3", "1.2.2"), re.findall(r"`(reporter=\S+)`", text("05-grafana", "which-counts")), strict=True)
    )
    panels = boards["Istio Mesh Dashboard"]["panels"]
    volume = next(panel for panel in panels if panel["title"] in ("Traffic Volume", "Global Request Volume"))
    assert re.findall(r"reporter=~?\"[\w|]+\"", volume["targets"][0]["expr"]) == [told[release]]


@pytest.mark.genuine
@pytest.mark.parametrize("release", FILES)
def test_what_the_4xxs_are_counted_in(release: str) -> None:
    """Requests a second, not a share: as a share one reads 2000 %."""
    (board,) = [
        json.loads(data)
        for one in of_kind(release, "ConfigMap")
        for key, data in (one.get("data") or {}).items()
        if key == "istio-mesh-dashboard.json"
    ]
    panel = next(one for one in board["panels"] if one["title"] == "4xxs")
    unit = panel.get("format") or panel["fieldConfig"]["defaults"]["unit"]
    assert unit == {"1.2.2": "ops", "1.30.3": "reqps"}[release]
    assert "moved.panel('4xxs').value:.1f} a second" in text("05-grafana", "solution-errors")


@pytest.mark.genuine
def test_who_traces_and_where_the_pages_begin() -> None:
    said = text("06-jaeger", "telemetry-explained")
    meshes = {release: named(release, "ConfigMap", "istio")["data"]["mesh"] for release in FILES}
    for words in ("enableTracing: true", "PILOT_TRACE_SAMPLING=100"):
        assert words in said
    assert "enableTracing: true" in meshes["1.2.2"]
    assert "enableTracing" not in meshes["1.30.3"]
    pilot = containers(named("1.2.2", "Deployment", "istio-pilot"))[0]["env"]
    assert {"name": "PILOT_TRACE_SAMPLING", "value": "100"} in pilot
    providers = [one["name"] for one in yaml.safe_load(meshes["1.30.3"])["extensionProviders"]]
    asked = re.findall(r"providers: \[\{name: (\w+)\}\]", text("06-jaeger", "what-the-mesh-says"))
    assert set(asked) <= set(providers)
    assert "tracing.istio.io" not in {one["apiVersion"].split("/")[0] for one in objects("1.30.3")}
    assert of_kind("1.30.3", "Telemetry") == []

    said = text("06-jaeger", "spans-explained")
    begins, then, now = re.findall(r"begin at `(.*?)`.*\(`(\w+)` in 1\.2\.2, `(\w+)` in 1\.30\.3\)", said, re.DOTALL)[0]
    settings = containers(named("1.2.2", "Deployment", "istio-tracing"))[0]["env"]
    assert {"name": then, "value": begins} in settings
    assert f"{now}: {begins}\n" in named("1.30.3", "ConfigMap", "jaeger")["data"]["config.yaml"]


@pytest.mark.genuine
def test_who_is_let_into_kiali() -> None:
    said = text("07-kiali", "port-forward-explained")
    words = re.findall(r"`(\w+)` and `(\w+)` of the Secret `(\w+)`", said)[0]
    secret = named("1.2.2", "Secret", words[2])["data"]
    assert [b64decode(secret[key]).decode() for key in ("username", "passphrase")] == list(words[:2])
    told = {"1.2.2": "login", "1.30.3": "anonymous"}
    for release, strategy in told.items():
        config = yaml.safe_load(named(release, "ConfigMap", "kiali")["data"]["config.yaml"])
        assert config["auth"]["strategy"] == strategy
        assert config["server"]["web_root"] == re.findall(r"http://hostip:\d+(/\w+)/", said)[0]


@pytest.mark.genuine
@pytest.mark.parametrize("release", FILES)
def test_what_a_sidecar_is_called(release: str) -> None:
    said = text("02-bookinfo", "injection-explained")
    config = named(release, "ConfigMap", "istio-sidecar-injector")["data"]["config"]
    for name in re.findall(r"\*\*`([\w-]+)`\*\*", said):
        assert f"name: {name}" in config
    assert "*native sidecar*" in said
    assert ("nativeSidecar" in config) == (release == "1.30.3")


def test_which_release_is_fetched_by_hand() -> None:
    said = text("01-install-istio", "the-release")
    assert re.findall(r"ISTIO_VERSION=(\S+) sh -\ncd istio-(\S+)", said) == [(config.DEFAULT_RELEASE,) * 2]
