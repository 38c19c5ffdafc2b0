# SPDX-License-Identifier: Apache-2.0
"""What `releases` says is what the manifests say: ours always, the genuine ones where they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.ground import config
from labkit.ground.errors import ReleaseError, SettingError
from labkit.istio import Release, facts, release
from tests.documents import documents
from tests.istio.of_releases import DASHBOARDS, METRICS

GENUINE = Path(__file__).parents[3] / "shared/releases"


@pytest.fixture(
    params=[
        "1.2.2-workshop",
        "1.30.3-workshop",
        pytest.param("1.2.2-genuine", marks=pytest.mark.genuine),
        pytest.param("1.30.3-genuine", marks=pytest.mark.genuine),
    ]
)
def a_release(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Release:
    monkeypatch.delenv("LABKIT_ISTIO_DIR", raising=False)
    version, _, source = request.param.partition("-")
    if source == "genuine" and not GENUINE.exists():
        pytest.skip(f"no genuine manifests in {GENUINE}")
    return release(version, GENUINE if source == "genuine" else None)


def objects(files: tuple[Path, ...]) -> Iterator[dict[str, Any]]:
    for file in files:
        for document in documents(file):
            yield from document.get("items", [document]) if document["kind"] == "List" else [document]


def everything(a_release: Release) -> list[dict[str, Any]]:
    return list(objects((*a_release.crd_files, *a_release.demo_files, *a_release.addon_files)))


def test_crds(a_release: Release) -> None:
    names = [o["metadata"]["name"] for o in objects(a_release.crd_files) if o["kind"] == "CustomResourceDefinition"]
    # Istio 1.2 brings what cert-manager needs as well.
    assert sorted(name for name in names if "certmanager" not in name) == sorted(a_release.facts.crds)
    assert len(a_release.facts.crds) == {"1.2.2": 23, "1.30.3": 15}[a_release.version]


def test_components(a_release: Release) -> None:
    found = {
        o["metadata"]["name"]: (o["kind"], tuple(c["image"] for c in o["spec"]["template"]["spec"]["containers"]))
        for o in everything(a_release)
        if o["kind"] in ("Deployment", "Job")
    }
    assert {c.name: (c.kind, c.images) for c in a_release.components} == found


def test_ready_columns() -> None:
    shown = {c.name: (c.ready, c.status) for c in facts("1.2.2").components}
    assert len(shown) == 15
    assert shown["istio-pilot"] == ("2/2", "Running")
    assert shown["istio-ingressgateway"] == ("1/1", "Running")
    assert shown["istio-security-post-install-1.2.2"] == ("0/1", "Completed")
    assert [name for name, (ready, _) in shown.items() if ready == "2/2"] == [
        "istio-pilot",
        "istio-policy",
        "istio-telemetry",
    ]


def test_services(a_release: Release) -> None:
    found = {
        o["metadata"]["name"]: (
            o["spec"].get("type", "ClusterIP"),
            o["spec"].get("clusterIP") == "None",
            [
                (
                    p.get("name", ""),
                    p["port"],
                    p.get("targetPort", p["port"]),
                    p.get("protocol", "TCP"),
                )
                for p in o["spec"]["ports"]
            ],
        )
        for o in everything(a_release)
        if o["kind"] == "Service"
    }
    assert {
        s.name: (s.type, s.headless, [(p.name, p.port, p.target or p.port, p.protocol) for p in s.ports])
        for s in a_release.services
    } == found


def test_1_2_2_fixes_node_ports() -> None:
    gateway = next(
        o
        for o in everything(release("1.2.2"))
        if o["metadata"]["name"] == "istio-ingressgateway" and o["kind"] == "Service"
    )
    fixed = {p["port"]: p["nodePort"] for p in gateway["spec"]["ports"] if "nodePort" in p}
    assert fixed == {80: 31380, 443: 31390, 31400: 31400}


def test_webhooks(a_release: Release) -> None:
    found = [o["metadata"]["name"] for o in everything(a_release) if o["kind"].endswith("WebhookConfiguration")]
    assert sorted(found) == sorted(a_release.facts.webhooks)


def test_addons_select_their_pods(a_release: Release) -> None:
    services = {s.name: s for s in a_release.services}
    for addon in a_release.facts.addons:
        assert addon.port in [p.port for p in services[addon.service].ports]
        key, value = addon.selector.split("=")
        selected = [
            o["metadata"]["name"]
            for o in everything(a_release)
            if o["kind"] == "Deployment" and o["spec"]["template"]["metadata"]["labels"].get(key) == value
        ]
        assert selected == [c.name for c in a_release.components if c.addon == addon.name and c.kind == "Deployment"]


def test_dashboards(a_release: Release) -> None:
    maps = {o["metadata"]["name"]: o["data"] for o in everything(a_release) if o["kind"] == "ConfigMap"}
    assert len(DASHBOARDS[a_release.version]) == 7
    for dashboard in DASHBOARDS[a_release.version]:
        found = json.loads(maps[dashboard.config_map][dashboard.file])
        assert (found["title"], found.get("uid") or "") == (dashboard.title, dashboard.uid)


def test_metrics_are_those_mixer_exports() -> None:
    handler = next(
        o
        for o in objects(release("1.2.2").demo_files)
        if o["kind"] == "handler" and o["metadata"]["name"] == "prometheus"
    )
    exported = {
        f"istio_{m['name']}": ("counter" if m["kind"] == "COUNTER" else "histogram", tuple(m["label_names"]))
        for m in handler["spec"]["params"]["metrics"]
    }
    assert {m.name: (m.type, m.labels) for m in METRICS["1.2.2"]} == exported
    assert all(facts(v).duration in {m.name for m in METRICS[v]} for v in config.RELEASES)
    http = next(m for m in METRICS["1.2.2"] if m.name == "istio_requests_total")
    assert len(http.labels) == 20


def test_labels_added_and_removed_since_1_2_2() -> None:
    then, now = (set(METRICS[v][0].labels) for v in config.RELEASES)
    assert then - now == {"permissive_response_code", "permissive_response_policyid"}
    assert now - then == {
        f"{end}_{label}" for end in ("source", "destination") for label in ("canonical_service", "canonical_revision")
    } | {"source_cluster", "destination_cluster", "grpc_response_status"}


def test_gateway_port(a_release: Release) -> None:
    gateway = next(objects((a_release.samples / "bookinfo/networking/bookinfo-gateway.yaml",)))
    assert gateway["spec"]["servers"][0]["port"]["number"] == {"1.2.2": 80, "1.30.3": 8080}[a_release.version]
    assert gateway["apiVersion"] == a_release.facts.api_version


def test_the_course_and_its_facts_name_the_same_releases() -> None:
    assert [facts(v).version for v in config.RELEASES] == list(config.RELEASES)
    with pytest.raises(SettingError):
        facts("1.2.0")


def test_no_folder_given_takes_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_ISTIO_DIR", raising=False)
    found = release()
    assert (found.version, found.source) == ("1.30.3", "workshop")
    assert found.samples == found.path / "samples"


def a_folder(root: Path, version: str = "1.2.2", holds: str = "1.2.2") -> Path:
    layout = facts(version).layout
    for name in layout.marks:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"image: docker.io/istio/pilot:{holds}\n" if name == layout.version_in else "")
    return root


def test_a_folder_of_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_folder(tmp_path / "istio-1.2.2")
    monkeypatch.setenv("LABKIT_ISTIO_DIR", str(tmp_path))
    found = release("1.2.2")
    assert (found.path, found.source) == (tmp_path / "istio-1.2.2", "directory")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"(?s)none is no folder.*Unpack the archive of Istio 1\.2\.2"):
        release("1.2.2", tmp_path / "none")


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    (folder / "install/kubernetes/istio-demo.yaml").unlink()
    with pytest.raises(ReleaseError, match=r"is not Istio 1\.2\.2: it has no install/kubernetes/istio-demo\.yaml"):
        release("1.2.2", folder)


def test_a_folder_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"is Istio 1\.2\.0, not 1\.2\.2"):
        release("1.2.2", a_folder(tmp_path, holds="1.2.0"))


def an_archive_of_charts(root: Path, istioctl: str) -> Release:
    a_folder(root, "1.30.3")
    for name, text in {
        "manifest.yaml": "version: 1.30.3\n",
        "manifests/charts/base/files/crd-all.gen.yaml": "",
        "bin/istioctl": f"#!/bin/sh\n{istioctl}\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "bin/istioctl").chmod(0o755)
    return release("1.30.3", root)


def test_charts_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    root = tmp_path / "istio-1.30.3"
    found = an_archive_of_charts(root, f'echo once >>{tmp_path}/runs; echo "# $*"')
    assert not (tmp_path / "runs").exists()
    assert found.crd_files == (root / "manifests/charts/base/files/crd-all.gen.yaml",)
    (rendered,) = found.demo_files
    assert rendered.read_text() == "# manifest generate --set profile=demo\n"
    assert release("1.30.3", root).demo_files == (rendered,)
    assert (tmp_path / "runs").read_text() == "once\n"
    assert found.addon_files[0] == root / "samples/addons/prometheus.yaml"


def test_istioctl_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    found = an_archive_of_charts(tmp_path / "istio-1.30.3", "echo no such profile >&2; exit 1")
    with pytest.raises(ReleaseError, match="failed: no such profile"):
        _ = found.demo_files
    assert not list((tmp_path / "home").rglob("*.yaml"))


def test_charts_without_istioctl_take_our_manifests(tmp_path: Path) -> None:
    a_folder(tmp_path, "1.30.3")
    found = release("1.30.3", tmp_path)
    assert found.demo_files == release("1.30.3").demo_files
    assert found.samples == tmp_path / "samples"
