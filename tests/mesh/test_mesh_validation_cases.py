# SPDX-License-Identifier: Apache-2.0
"""What the API says of Istio's objects, by its schemas and by the webhook: each kind's rules, words and warnings."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshbox.api.options import WriteOptions
from meshbox.contracts import ApiError
from meshbox.mesh import security_notices
from meshbox.mesh.istio_validation.texts import listing
from meshbox.mesh.telemetry_notices import telemetry_warnings

from .cluster import Cluster
from .conftest import REPOSITORY

Obj = dict[str, Any]

HERE = Path(__file__).parent
VERDICTS: dict[str, list[Obj]] = yaml.load((HERE / "verdicts.yaml").read_text(), yaml.CSafeLoader)
OLD_VERDICTS: dict[str, list[Obj]] = yaml.load((HERE / "verdicts_1_2.yaml").read_text(), yaml.CSafeLoader)
SHARED = REPOSITORY.parent / "shared" / "cases" / "istio-validation-1.30.3.jsonl"
DENIED = 'admission webhook "validation.istio.io" denied the request: '
OURS = "the sandbox does not play "


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), "1.2.2")
    cluster.validate()
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), "1.30.3")
    cluster.validate()
    cluster.create("namespaces", {"metadata": {"name": "cases"}})
    yield cluster
    cluster.close()


def asked(cluster: Cluster, kind: str, obj: Obj) -> tuple[str, list[str]]:
    """Why `obj` is refused as it would be written, and what Istio warns of otherwise."""
    resource = resources(cluster)[kind]
    group, _, version = str(obj.get("apiVersion") or cluster.resource(resource).api_version).rpartition("/")
    served = cluster.registry.served(group, version, resource.partition(".")[0])
    options = WriteOptions(validation="Strict", served=served)
    options.dry_run = True
    try:
        cluster.create(resource, obj, options=options)
    except ApiError as error:
        return error.message, []
    ours = {*security_notices.unplayed(resource, obj), *telemetry_warnings(cluster, obj)}
    return "", [warning for warning in options.warnings if warning not in ours and not warning.startswith(OURS)]


@functools.cache
def resources(cluster: Cluster) -> dict[str, str]:
    names = [name for name in cluster.resources() if name.endswith(".istio.io")]
    return {cluster.resource(name).kind: name for name in names}


@pytest.mark.parametrize("kind", VERDICTS)
def test_each_rule_of_a_kind(kind: str, today: Cluster) -> None:
    for case in VERDICTS[kind]:
        obj = {"metadata": {"name": "one", "namespace": "bookinfo"}, "spec": case["spec"]}
        said, warnings = asked(today, kind, obj)
        wanted = case.get("says", "")
        if "schema" in case:
            assert f" is invalid: {case['schema']}" in said.replace(" is invalid: [", " is invalid: "), case["spec"]
            continue
        if "decoding" in case:
            assert said == f"{DENIED}error decoding configuration: {case['decoding']}", case["spec"]
            continue
        words = listing(wanted) if isinstance(wanted, list) else wanted
        assert said == (f"{DENIED}configuration is invalid: {words}" if words else ""), case["spec"]
        general = "EnvoyFilter exposes internal implementation details"
        assert [one for one in warnings if not one.startswith(general)] == case.get("warns", []), case["spec"]
        assert (kind == "EnvoyFilter" and not said) == any(one.startswith(general) for one in warnings)


@pytest.mark.parametrize("kind", OLD_VERDICTS)
def test_each_rule_of_istio_1_2(kind: str, once: Cluster) -> None:
    for case in OLD_VERDICTS[kind]:
        obj = {"metadata": {"name": "one", "namespace": "bookinfo"}, "spec": case["spec"]}
        wanted = case.get("says", "")
        words = listing(wanted) if isinstance(wanted, list) else wanted
        denied = f"{DENIED.replace('validation', 'pilot.validation')}configuration is invalid: {words}"
        assert asked(once, kind, obj) == (denied if words else "", []), case["spec"]


@pytest.mark.parametrize(
    ("kind", "spec", "annotations", "words"),
    [
        ("AuthorizationPolicy", {}, {"istio.io/dry-run": "true"}, ""),
        (
            "AuthorizationPolicy",
            {},
            {"istio.io/dry-run": "yes"},
            "bookinfo/one has annotation istio.io/dry-run with invalid value (yes): "
            'strconv.ParseBool: parsing "yes": invalid syntax',
        ),
        (
            "AuthorizationPolicy",
            {"action": "AUDIT"},
            {"istio.io/dry-run": "true"},
            "the annotation istio.io/dry-run currently only supports action ALLOW/DENY, found action AUDIT in "
            "bookinfo/one",
        ),
        (
            "PeerAuthentication",
            {},
            {"istio.io/dry-run": "true"},
            "bookinfo/one has unsupported annotation istio.io/dry-run, please remove the annotation",
        ),
        (
            "Sidecar",
            {"egress": [{"hosts": ["./*"]}]},
            {"internal.istio.io/webhook-always-reject": ""},
            '"internal.istio.io/webhook-always-reject" annotation found, rejecting',
        ),
    ],
)
def test_annotations_decide_as_well(kind: str, spec: Obj, annotations: Obj, words: str, today: Cluster) -> None:
    meta = {"name": "one", "namespace": "bookinfo"}
    # What is remembered of one does not hold for the other.
    for marks, wanted in ((annotations, words), ({}, ""), (annotations, words)):
        said, _ = asked(today, kind, {"metadata": {**meta, "annotations": marks}, "spec": spec})
        assert said == (f"{DENIED}configuration is invalid: {wanted}" if wanted else "")


def test_a_service_entry_may_do_without_an_address_of_its_own(today: Cluster) -> None:
    spec = {"hosts": ["db.example"], "ports": [{"number": 3306, "name": "db"}], "resolution": "DNS"}
    meta: Obj = {"name": "one", "namespace": "bookinfo"}
    assert asked(today, "ServiceEntry", {"metadata": meta, "spec": spec}) == ("", [])
    meta["labels"] = {"networking.istio.io/enable-autoallocate-ip": "false"}
    assert len(asked(today, "ServiceEntry", {"metadata": meta, "spec": spec})[1]) == 1


def test_istios_own_verdicts_where_they_are_at_hand(today: Cluster) -> None:
    if not SHARED.is_file():
        pytest.skip(f"there are no verdicts of the genuine webhook at {SHARED}")
    differ = []
    for line in SHARED.read_text().splitlines():
        case = json.loads(line)
        obj = case["object"]
        obj["metadata"] = {"name": "case", **obj["metadata"], "namespace": "cases"}
        said, warnings = asked(today, obj["kind"], obj)
        denied = said.startswith(DENIED) and "message" in case
        if bool(said) != (case["verdict"] == "refuse") or (denied and said != f"{DENIED}{case['message']}"):
            differ.append((case["id"], case.get("message"), said))
        if case["verdict"] == "accept" and case.get("warning") and not warnings:
            differ.append((case["id"], case["warning"], ""))
    assert differ == []


def test_the_default_rbac_config_of_istio_1_2_says_whom_it_means(once: Cluster) -> None:
    obj = {"metadata": {"name": "default", "namespace": "bookinfo"}, "spec": {"mode": "ON_WITH_INCLUSION"}}
    assert asked(once, "RbacConfig", obj)[0].endswith("inclusion cannot be null (use 'inclusion: {}' for none)")
    obj["spec"]["inclusion"] = {}
    assert asked(once, "RbacConfig", obj)[0] == ""
