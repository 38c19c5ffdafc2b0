# SPDX-License-Identifier: Apache-2.0
"""Whose an object is, what a command is about, and what is written down: decided without a cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labkit import istio
from labkit.cluster import Ownership, Thing, listing, record, removal, watching
from labkit.cluster.listing import COURSE, LABELS_BEFORE, LESSON, RUN, WORKSHOP
from labkit.cluster.record import Record
from labkit.cluster.words import Command
from labkit.ground.errors import ClusterError
from tests.cluster.fake_kubectl import UID, FakeKubectl

OURS = Record("cluster-1", "run-1", made={"u-ns": "Namespace istio-system", "u-gw": "Gateway team/gw", "u-d": "x"})
OWNED = "belongs to Deployment d"
MARKED = {"course": WORKSHOP, "run": "run-1", "lesson": "03-ingress"}


def thing(kind: str, namespace: str, name: str, uid: str, **more: object) -> Thing:
    return Thing(kind, namespace, name, uid=uid, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "whole", "before", "why"),
    [
        pytest.param(thing("Gateway", "team", "gw", "u-gw", **MARKED), False, (), "made in 03-ingress", id="made"),
        pytest.param(thing("Gateway", "team", "gw", "u-2", **MARKED), False, (), "", id="a copy, or made anew"),
        pytest.param(thing("Gateway", "team", "gw", "u-gw"), False, (), "", id="its label was taken away"),
        pytest.param(thing("Gateway", "team", "gw", "u-gw", course="other"), False, (), "", id="another course"),
        pytest.param(thing("Pod", "team", "p", "u-p", owners=("u-d",)), False, (), OWNED, id="owned"),
        pytest.param(thing("Pod", "team", "p", "u-p", owners=("u-x",)), False, (), "", id="its owner is gone"),
        pytest.param(thing("Secret", "team", "s", "u-s"), False, (), "", id="unmarked"),
        pytest.param(thing("Secret", "team", "s", "u-s"), True, (), "came since the snapshot", id="sandbox"),
        pytest.param(thing("Secret", "team", "s", "u-s"), True, (("Secret", "team", "s"),), "", id="sandbox, before"),
        pytest.param(thing("Secret", "team", "s", "u-s"), True, None, "", id="sandbox without a snapshot"),
    ],
)  # fmt: skip
def test_whose_it_is(one: Thing, whole: bool, before: tuple[tuple[str, str, str], ...] | None, why: str) -> None:
    deployment = thing("Deployment", "team", "d", "u-d", **MARKED)
    known = Ownership([one, deployment], OURS, None if before is None else frozenset(before), whole)
    assert known.why(one) == why


def test_without_a_record_nothing_is_ours() -> None:
    known = Ownership([one := thing("Gateway", "team", "gw", "u-gw", **MARKED)], None, frozenset())
    assert known.why(one) == ""
    assert known.in_the_way({("Gateway", "team", "gw")}) == [one]
    assert Ownership([one], None, frozenset(), whole=True).in_the_way({("Gateway", "team", "gw")}) == []


def test_owners_that_own_each_other_end() -> None:
    a, b = thing("A", "n", "a", "u-a", owners=("u-b",)), thing("B", "n", "b", "u-b", owners=("u-a",))
    assert [Ownership([a, b], OURS, frozenset()).why(one) for one in (a, b)] == ["", ""]


NAMESPACE = thing("Namespace", "", "istio-system", "u-ns", **MARKED)
CRD = thing("CustomResourceDefinition", "", "gateways.networking.istio.io", "u-gw", defines="Gateway", **MARKED)
GATEWAY = thing("Gateway", "team", "theirs", "u-9", api_version="networking.istio.io/v1")
OTHERS_GATEWAY = thing("Gateway", "team", "theirs", "u-9", api_version="gateway.networking.k8s.io/v1")
CLASSES = thing(
    "CustomResourceDefinition", "", "gatewayclasses.gateway.networking.k8s.io", "u-gw", defines="GatewayClass", **MARKED
)
CLASS, OTHERS_CLASS = (
    thing("GatewayClass", "", name, f"u-{name}", api_version="gateway.networking.k8s.io/v1")
    for name in ("istio", "nginx")
)
SYSTEM = (
    thing("ServiceAccount", "istio-system", "default", "u-1"),
    thing("ConfigMap", "istio-system", "kube-root-ca.crt", "u-2"),
    thing("Secret", "istio-system", "default-token-x", "u-3", type="kubernetes.io/service-account-token"),
)


def test_what_kubernetes_makes_in_a_namespace_of_the_courses_is_nobodys_whenever_the_snapshot_was_made() -> None:
    """A lesson that failed leaves its namespace; the next run's snapshot sees what Kubernetes has put in it."""
    before = frozenset(one.key for one in SYSTEM)
    assert Ownership([NAMESPACE, *SYSTEM], OURS, before).keeping("istio-system") == []
    theirs = thing("Namespace", "", "istio-system", "u-of-theirs")
    assert Ownership([theirs, *SYSTEM], OURS, before).keeping("istio-system") == list(SYSTEM)


CITADELS = thing("Secret", "team", "istio.default", "u-4", type="istio.io/key-and-cert")


@pytest.mark.parametrize(
    ("things", "deleted", "kept"),
    [
        pytest.param([NAMESPACE, *SYSTEM], ["istio-system"], [], id="only what Kubernetes made"),
        pytest.param([NAMESPACE, thing("Secret", "istio-system", "s", "u-5")], [], ["istio-system"], id="their Secret"),
        pytest.param([CRD], ["gateways.networking.istio.io"], [], id="a kind that nobody uses"),
        pytest.param([CRD, GATEWAY], [], ["gateways.networking.istio.io"], id="a kind that they use"),
        pytest.param([CRD, OTHERS_GATEWAY], ["gateways.networking.istio.io"], [], id="another group's kind"),
        pytest.param([CLASSES, CLASS], ["istio", CLASSES.name], [], id="a kind of which a component made one"),
        pytest.param([CLASSES, OTHERS_CLASS], [], [CLASSES.name], id="a kind of which they have one"),
        pytest.param([CITADELS], ["istio.default"], [], id="made by a component"),
        pytest.param([thing("Secret", "team", "istio.default", "u-4", type="Opaque")], [], [], id="of that name only"),
        pytest.param([thing("Namespace", "", "bookinfo", "u-5", run="run-1", labels_before='{"a": [null, "b"]}')],
                     ["bookinfo"], [], id="labels are taken back"),
        pytest.param([thing("Namespace", "", "bookinfo", "u-5", run="run-2", labels_before='{"a": [null, "b"]}')],
                     [], [], id="another run's labels"),
    ],
)  # fmt: skip
def test_what_clean_up_would_delete(things: list[Thing], deleted: list[str], kept: list[str]) -> None:
    known = Ownership(things, OURS, frozenset())
    plan = removal.plan(lambda: known, lambda one: "all", maker="Namespace istio-system")
    assert [item.thing.name for item in plan.items] == deleted
    assert [item.thing.name for item in plan.kept] == kept


def test_what_a_component_made_is_ours_only_if_the_component_is() -> None:
    known = Ownership([CITADELS], Record("cluster-1", "run-1"), frozenset())
    assert removal.plan(lambda: known, lambda one: "all", maker="Namespace istio-system").items == ()
    there = Ownership([CITADELS], OURS, frozenset({CITADELS.key}))
    assert removal.plan(lambda: there, lambda one: "all", maker="Namespace istio-system").items == ()


def test_what_a_component_of_others_made_is_theirs_though_the_course_had_one_once() -> None:
    """The course was cleaned up, and somebody installed an Istio since."""
    release = istio.release("1.2.2")
    theirs = thing("Namespace", "", "istio-system", "u-new")

    def claimed(known: Ownership) -> bool:
        return bool(istio.claimed(release, known))

    for things, deleted in (([CITADELS], ["istio.default"]), ([CITADELS, theirs], [])):
        known = Ownership(things, OURS, frozenset())
        plan = removal.plan(lambda: known, lambda one: "all", maker="Namespace istio-system", theirs=claimed)  # noqa: B023
        assert [item.thing.name for item in plan.items] == deleted


def test_a_plan_is_of_the_cluster_it_was_made_on(kubectl: FakeKubectl) -> None:
    """Made in a sandbox, which asks for nothing; then another cluster was chosen, and only later cells run."""
    for cluster_uid, said in ((UID, ""), ("another", "made on another cluster")):
        known = Ownership([CITADELS], None, frozenset(), whole=True, cluster=cluster_uid)
        plan = removal.plan(lambda: known, lambda one: "all")  # noqa: B023
        if said:
            for step in (plan.confirm, plan.remove):
                with pytest.raises(ClusterError, match=said):
                    step()
        else:
            plan.confirm()
    assert kubectl.commands == []


def test_what_came_long_after_an_interrupted_command_is_somebody_elses() -> None:
    pending = record.Pending(record.since("2026-01-01T10:00:00Z") + 0.5, "01", frozenset({("Pod", "a", "b")}))
    for stamp, fits in (("09:59:59", False), ("10:00:00", True), ("10:05:00", True), ("12:00:00", False)):
        one = thing("Pod", "a", "b", "u", created=f"2026-01-01T{stamp}Z")
        assert watching._may_be(one, pending, "run-1") == fits, stamp


@pytest.mark.parametrize(
    ("one", "istios"),
    [
        (thing("CustomResourceDefinition", "", "gateways.networking.istio.io", "a"), True),
        (thing("CustomResourceDefinition", "", "wasmplugins.extensions.istio.io", "a"), True),
        (thing("CustomResourceDefinition", "", "gateways.gateway.networking.k8s.io", "a"), False),
        (thing("Namespace", "", "istio-system", "a"), True),
        (thing("Namespace", "", "istio-test", "a"), False),
        (thing("Deployment", "mesh", "istiod-1-20", "a"), True),
        (thing("Deployment", "mesh", "istio-pilot", "a"), True),
        (thing("Deployment", "mesh", "istio-shop", "a"), False),
        (thing("MutatingWebhookConfiguration", "", "istio-revision-tag-default", "a"), True),
        (CRD, False),
        (NAMESPACE, False),
    ],
)
@pytest.mark.parametrize("version", ["1.2.2", "1.30.3"])
def test_an_istio_of_somebody_elses(one: Thing, istios: bool, version: str) -> None:
    known = Ownership([one], OURS, frozenset())
    assert istio.claimed(istio.release(version), known) == ([one] if istios else [])
    assert istio.claimed(istio.release(version), Ownership([one], None, None, whole=True)) == []


def test_what_tells_whose_an_object_is() -> None:
    notes = {RUN: "run\nGateway|team|gw", LESSON: "03-ingress", LABELS_BEFORE: "{}"}
    meta = {
        "namespace": "team",
        "name": "s",
        "uid": "u-1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {COURSE: WORKSHOP},
        "annotations": notes,
        "ownerReferences": [{"uid": "u-2"}, {"uid": "u-3"}],
        "managedFields": [{"manager": "kubectl"}, {}],
    }
    secret = {"kind": "Secret", "apiVersion": "v1", "metadata": meta, "type": "Opaque"}
    (one,) = listing.things([secret, secret])
    assert one == Thing(
        "Secret",
        "team",
        "s",
        owners=("u-2", "u-3"),
        uid="u-1",
        created="2026-01-01T00:00:00Z",
        course=WORKSHOP,
        run="run\nGateway|team|gw",
        lesson="03-ingress",
        type="Opaque",
        managers=("kubectl",),
        labels_before="{}",
    )
    crd = {"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1", "metadata": {"name": "g.x"}}
    (one,) = listing.things([{**crd, "spec": {"names": {"kind": "G"}}}])
    assert (one.defines, one.resource) == ("G", "customresourcedefinition.apiextensions.k8s.io")


@pytest.mark.parametrize(
    ("words", "verb", "files", "namespace", "selection"),
    [
        ("delete pod a b -n x --wait=false --timeout 3s", "delete", [], "x", ["pod", "a", "b", "-n", "x"]),
        ("-n x delete -f a.yaml,b.yaml --now", "delete", ["a.yaml", "b.yaml"], "x", ["-n", "x", "-f", "a.yaml,b.yaml"]),
        ("delete virtualservices --all -A", "delete", [], "", ["virtualservices", "-A"]),
        ("delete secrets --namespace=y -l=app=z", "delete", [], "y", ["secrets", "--namespace", "y", "-l", "app=z"]),
        ("apply -f - -ny", "apply", ["-"], "y", ["-f", "-", "-n", "y"]),
        ("exec p -n x -- kubectl delete all", "exec", [], "x", ["p", "-n", "x"]),
        ("delete -n x -- pod a", "delete", [], "x", ["pod", "a", "-n", "x"]),
        ("delete pods -lapp=z -n=x", "delete", [], "x", ["pods", "-l", "app=z", "-n", "x"]),
        ("--as a --as-group b delete pod c", "delete", [], "", ["pod", "c"]),
        ("", "", [], "", []),
    ],
)
def test_what_a_command_is_about(words: str, verb: str, files: list[str], namespace: str, selection: list[str]) -> None:
    command = Command(tuple(words.split()))
    assert (command.verb, command.files, command.namespace, command.selection) == (verb, files, namespace, selection)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("label namespace team a=b --overwrite", "team"),
        ("label ns/team a=b", "team"),
        ("label namespaces --overwrite team a-", "team"),
        ("label pod team a=b", ""),
        ("label namespace", ""),
        ("get namespace team", ""),
    ],
)
def test_a_namespace_that_is_labelled(words: str, name: str) -> None:
    assert Command(tuple(words.split())).labelled == name


@pytest.mark.parametrize("flag", ["--dry-run=client", "--dry-run=server", "--help"])
def test_what_changes_nothing(flag: str) -> None:
    assert Command(("apply", "-f", "x", flag)).tries_only
    for earnest in ("none", "false", "0"):
        assert not Command(("apply", "-f", "x", f"--dry-run={earnest}")).tries_only
        assert not Command(("apply", "-f", "x", flag, f"--dry-run={earnest}")).tries_only or flag == "--help"


def test_what_is_written_down_is_of_one_cluster(tmp_path: Path) -> None:
    with record.changing(tmp_path / "course", "cluster-1") as one:
        one.made["u"] = "Pod a/b"
        run = one.run
    record.expect(tmp_path / "course", "cluster-1", "01", [("Pod", "a", "c")])
    kept = record.load(tmp_path / "course", "cluster-1")
    assert kept is not None
    assert (kept.run, kept.made, kept.pending[0].objects) == (run, {"u": "Pod a/b"}, {("Pod", "a", "c")})
    assert record.load(tmp_path / "course", "cluster-2") is None
    assert (tmp_path / "course" / "made.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "{}", json.dumps({"cluster": "c", "run": "r", "made": 3, "pending": []})]
)
def test_a_damaged_record_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "made.json").write_text(text)
    with pytest.raises(ClusterError, match=r"made\.json, which says what the course made .*, cannot be read"):
        record.load(tmp_path, "c")


def test_no_command_deletes_more_than_kubectl_lets_pass_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten deletions of a kind kubectl makes five a second of them: 1.2.2 has 28 kinds of its own."""
    commands: list[list[str]] = []
    monkeypatch.setattr(removal, "kubectl", commands.append)
    kinds = [
        Thing("CustomResourceDefinition", "", f"k{number:02}", api_version="apiextensions.k8s.io/v1")
        for number in range(23)
    ]
    removal._delete([*kinds, Thing("Secret", "a", "s"), Thing("Service", "a", "s"), Thing("Secret", "b", "s")])
    flags = ["--ignore-not-found", "--wait=false"]
    crd = "customresourcedefinition.apiextensions.k8s.io"
    of_kinds = [
        ["delete", *(f"{crd}/k{n:02}" for n in some), *flags] for some in (range(10), range(10, 20), range(20, 23))
    ]
    # What of a namespace are several kinds goes in one command.
    inside = [["secret/s", "service/s", "-n", "a"], ["secret/s", "-n", "b"]]
    assert commands == [*of_kinds, *(["delete", *words, *flags] for words in inside)]
