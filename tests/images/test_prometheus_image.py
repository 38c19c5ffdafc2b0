# SPDX-License-Identifier: Apache-2.0
"""Prometheus' configuration as the sandbox adapts it, and what its service discovery finds."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from labkit.ground.web import Request, Response
from meshbox.addresses import LOW_PORT_SHIFT, AddressPlan
from meshbox.images.prometheus import server
from meshbox.images.prometheus.adapt import QUICK, SLOW, Surroundings, adapt
from meshbox.images.prometheus.server import door
from meshbox.images.prometheus.targets import targets
from tests.conftest import genuine

POD = {
    "metadata": {
        "name": "reviews-v1-abc",
        "namespace": "bookinfo",
        "uid": "u1",
        "labels": {"app": "reviews", "app.kubernetes.io/part-of": "bookinfo"},
        "annotations": {"prometheus.io/scrape": "true"},
        "ownerReferences": [{"kind": "ReplicaSet", "name": "reviews-v1", "controller": True}],
    },
    "spec": {
        "nodeName": "labkit-x",
        "containers": [
            {"name": "reviews", "image": "r:1", "ports": [{"containerPort": 9080}]},
            {"name": "istio-proxy", "ports": [{"containerPort": 15090, "name": "http-envoy-prom"}]},
        ],
    },
    "status": {
        "podIP": "127.9.64.5",
        "phase": "Running",
        "hostIP": "127.9.0.1",
        "conditions": [{"type": "Ready", "status": "True"}],
    },
}
SERVICE = {
    "metadata": {"name": "reviews", "namespace": "bookinfo", "labels": {"app": "reviews"}},
    "spec": {"clusterIP": "127.9.16.7", "ports": [{"name": "http", "port": 9080}]},
}
ENDPOINTS = {
    "metadata": {"name": "reviews", "namespace": "bookinfo"},
    "subsets": [
        {
            "addresses": [{"ip": "127.9.64.5", "targetRef": {"kind": "Pod", "name": "reviews-v1-abc"}}],
            "ports": [{"name": "http", "port": 9080, "protocol": "TCP"}],
        }
    ],
}
OBJECTS = {"pod": [POD], "service": [SERVICE], "endpoints": [ENDPOINTS]}


def here(root: Path, **more: object) -> Surroundings:
    return Surroundings("http://127.9.128.1:1/sd", root, "127.9.16.1:443", "127.9.64.9:9090", quick=True, **more)


def test_a_pod_is_a_target_a_port_with_all_its_labels():
    found = targets("pod", OBJECTS)
    assert [one["targets"] for one in found] == [["127.9.64.5:9080"], ["127.9.64.5:15090"]]
    labels = found[1]["labels"]
    assert labels["__meta_kubernetes_pod_container_port_name"] == "http-envoy-prom"
    assert labels["__meta_kubernetes_pod_label_app_kubernetes_io_part_of"] == "bookinfo"
    assert labels["__meta_kubernetes_pod_annotation_prometheus_io_scrape"] == "true"
    assert labels["__meta_kubernetes_pod_annotationpresent_prometheus_io_scrape"] == "true"
    assert labels["__meta_kubernetes_pod_controller_name"] == "reviews-v1"
    assert labels["__meta_kubernetes_pod_ready"] == "true"


def test_an_endpoint_carries_its_services_and_its_pods_labels():
    (found,) = targets("endpoints", OBJECTS)
    assert found["targets"] == ["127.9.64.5:9080"]
    labels = found["labels"]
    assert labels["__meta_kubernetes_service_name"] == "reviews"
    assert labels["__meta_kubernetes_endpoint_port_name"] == "http"
    assert labels["__meta_kubernetes_pod_name"] == "reviews-v1-abc"
    assert labels["__meta_kubernetes_pod_container_name"] == "reviews"


def test_namespaces_narrow_and_unknown_roles_find_nothing():
    assert targets("pod", OBJECTS, frozenset({"elsewhere"})) == []
    assert len(targets("service", OBJECTS, frozenset({"bookinfo"}))) == 1
    assert targets("galaxy", OBJECTS) == []


def test_discovery_paths_and_clocks_are_adapted_and_relabel_rules_are_not(tmp_path):
    account = tmp_path / "var/run/secrets/kubernetes.io/serviceaccount"
    account.mkdir(parents=True)
    (account / "ca.crt").write_text("")
    rules = [{"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod_name"}]
    config = {
        "global": {"scrape_interval": "15s"},
        "rule_files": ["/etc/config/rules"],
        "scrape_configs": [
            {
                "job_name": "envoy-stats",
                "metrics_path": "/stats/prometheus",
                "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": ["a", "b"]}}],
                "tls_config": {"ca_file": "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"},
                "relabel_configs": [
                    *rules,
                    {"target_label": "__address__", "replacement": "kubernetes.default.svc:443"},
                ],
            }
        ],
    }
    adapted = adapt(config, here(tmp_path))
    (job,) = adapted["scrape_configs"]
    assert "rule_files" not in adapted
    assert adapted["global"]["scrape_interval"] == SLOW
    assert job["scrape_interval"] == QUICK
    assert job["metrics_path"] == "/stats/prometheus"
    assert job["tls_config"]["ca_file"] == str(account / "ca.crt")
    assert job["http_sd_configs"] == [
        {"url": "http://127.9.128.1:1/sd?role=pod&namespaces=a%2Cb", "refresh_interval": "1s"}
    ]
    assert job["relabel_configs"] == [*rules, {"target_label": "__address__", "replacement": "127.9.16.1:443"}]
    assert job["metric_relabel_configs"][-1]["replacement"] == "$1"
    assert config["scrape_configs"][0]["relabel_configs"][1]["replacement"] == "kubernetes.default.svc:443"


def test_one_door_leads_in_to_sidecars_and_to_discovery_and_foreign_pages_nowhere():
    def says(word):
        return lambda request: Response(200, word)

    app = door(says("inside"), says("discovery"), says("sidecar"))

    def ask(target, method="GET", **headers):
        headers = {"host": "127.9.64.9:9090", **headers}
        return app(Request(method, target, headers, b"", "127.9.64.9", list(headers.items())))

    targets = ("/api/v1/query?query=up", "/sd?role=pod", "/sdk", "http://127.9.64.5:15020/stats/prometheus", "/")
    assert [ask(target).body for target in targets] == ["inside", "discovery", "inside", "sidecar", "inside"]
    for target in targets:
        assert ask(target, host="evil.example").status == 403
        assert ask(target, "POST", origin="https://evil.example").status == 403


def test_with_mixer_the_sidecars_own_series_are_left_out(tmp_path):
    config = {"scrape_configs": [{"job_name": "istio-mesh"}, {"job_name": "envoy-stats"}]}
    mesh, envoy = adapt(config, here(tmp_path, from_mixer=True))["scrape_configs"]
    assert (mesh["scrape_interval"], envoy["scrape_interval"]) == (QUICK, SLOW)
    assert envoy["metric_relabel_configs"][-1]["action"] == "drop"


def test_istios_own_clocks_stay_where_asked_for(tmp_path):
    surroundings = dataclasses.replace(here(tmp_path), quick=False)
    config = {"global": {"scrape_interval": "15s"}, "scrape_configs": [{"job_name": "istio-mesh"}]}
    adapted = adapt(config, surroundings)
    assert adapted["global"]["scrape_interval"] == "15s"
    assert "scrape_interval" not in adapted["scrape_configs"][0]


@pytest.mark.parametrize(
    ("version", "told"), [((0, 0), None), ((2, 34), None), ((2, 55), None), ((3, 0), "PrometheusText0.0.4")]
)
def test_a_page_that_does_not_say_what_it_is_stays_text(version, told, tmp_path):
    config = {"scrape_configs": [{"job_name": "a"}, {"job_name": "b", "fallback_scrape_protocol": "PrometheusProto"}]}
    first, second = adapt(config, here(tmp_path, version=version))["scrape_configs"]
    assert first.get("fallback_scrape_protocol") == told
    assert second["fallback_scrape_protocol"] == "PrometheusProto"


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("prometheus, version 2.34.0 (branch: HEAD, revision: 1)", (2, 34)),
        ("prometheus, version 2.42.0+ds (branch: debian/sid)", (2, 42)),
        ("prometheus, version 3.10.0 (branch: HEAD, revision: 1)\n  go version: go1.26", (3, 10)),
        ("nothing", (0, 0)),
    ],
)
def test_prometheus_says_its_version(said, version, tmp_path):
    program = tmp_path / "prometheus"
    program.write_text(f"#!/bin/sh\ncat <<END\n{said}\nEND\n")
    program.chmod(0o755)
    assert server.version(program) == version
    assert server.version(tmp_path / "missing") == (0, 0)


@pytest.mark.parametrize(
    ("release", "file", "jobs"),
    [
        ("1.2.2", "install/kubernetes/istio-demo.yaml", 13),
        ("1.30.3", "samples/addons/prometheus.yaml", 10),
    ],
)
def test_every_job_of_a_genuine_configuration_stays(release, file, jobs, tmp_path):
    maps = (
        one
        for one in yaml.load_all((genuine(release) / file).read_text(), yaml.CSafeLoader)
        if one and one["kind"] == "ConfigMap"
    )
    config = next(
        yaml.safe_load(one["data"]["prometheus.yml"]) for one in maps if "prometheus.yml" in one.get("data", {})
    )
    adapted = adapt(config, here(tmp_path))
    assert len(adapted["scrape_configs"]) == len(config["scrape_configs"]) == jobs
    assert "kubernetes_sd_configs" not in yaml.safe_dump(adapted)
    before = [len(job.get("relabel_configs") or []) for job in config["scrape_configs"]]
    assert [len(job.get("relabel_configs") or []) for job in adapted["scrape_configs"]] == before


def test_its_own_address_is_the_pods(tmp_path):
    config = {"scrape_configs": [{"job_name": "prometheus", "static_configs": [{"targets": ["localhost:9090"]}]}]}
    (job,) = adapt(config, here(tmp_path))["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.9.64.9:9090"]}]


def relabelled(job: dict, address: str, **labels: str) -> dict[str, str]:
    """The labels of a target after the job's rules that replace, as Prometheus applies them."""
    found = {"__address__": address, "__scheme__": "http", **labels}
    for rule in job["relabel_configs"]:
        value = ";".join(found.get(name, "") for name in rule["source_labels"])
        if match := re.fullmatch(rule["regex"], value):
            found[rule["target_label"]] = match.expand(re.sub(r"\$(\d)", r"\\g<\1>", rule.get("replacement", "$1")))
    return found


@pytest.mark.parametrize("port", [1, 7, 80, 99, 100, 443, 999, 1000, 1009, 1010, 1023, 1024, 1025, 9080, 15020])
def test_low_ports_are_scraped_where_an_ordinary_user_has_them(port, tmp_path):
    (job,) = adapt({"scrape_configs": [{"job_name": "pods"}]}, here(tmp_path, shift=LOW_PORT_SHIFT))["scrape_configs"]
    real = AddressPlan(9, low_ports=False).port(port)
    found = relabelled(job, f"127.9.64.5:{port}")
    assert (found["__address__"], found["instance"]) == (f"127.9.64.5:{real}", f"127.9.64.5:{port}")
    elsewhere = relabelled(job, f"127.10.64.5:{port}", instance="mine")
    assert (elsewhere["__address__"], elsewhere["instance"]) == (f"127.10.64.5:{port}", "mine")


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
def test_an_address_without_a_port_means_the_schemes(scheme, port, tmp_path):
    (job,) = adapt({"scrape_configs": [{"job_name": "pods"}]}, here(tmp_path, shift=LOW_PORT_SHIFT))["scrape_configs"]
    found = relabelled(job, "127.9.64.5", __scheme__=scheme)
    assert found["__address__"] == f"127.9.64.5:{port + LOW_PORT_SHIFT}"
    assert found["instance"] == "127.9.64.5"


def test_the_users_own_rules_come_first_and_root_has_no_others(tmp_path):
    rules = [{"source_labels": ["a"], "target_label": "b"}]
    config = {"scrape_configs": [{"job_name": "pods", "relabel_configs": rules}]}
    assert adapt(config, here(tmp_path))["scrape_configs"][0]["relabel_configs"] == rules
    assert adapt(config, here(tmp_path, shift=LOW_PORT_SHIFT))["scrape_configs"][0]["relabel_configs"][:1] == rules
