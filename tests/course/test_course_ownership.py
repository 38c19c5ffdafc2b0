# SPDX-License-Identifier: Apache-2.0
"""On a cluster that others use too: what the course makes is marked, and nothing else is changed or deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit import cluster, istio
from labkit.cluster import record, removal, watching
from labkit.cluster.listing import COURSE, LABELS_BEFORE, LESSON, RUN, WORKSHOP
from labkit.ground.errors import ClusterError
from tests.conftest import SandboxUnderTest, wait_until
from tests.course.shared_cluster import CONTEXT, apply, config_map, namespace, somebodys, state


@pytest.fixture(scope="module", params=["1.2.2", "1.30.3"])
def started(request: pytest.FixtureRequest, start_shared_sandbox: Callable[..., SandboxUnderTest]) -> SandboxUnderTest:
    return start_shared_sandbox(request.param, name=f"theirs-{request.param.replace('.', '-')}")


@pytest.fixture
def theirs(started: SandboxUnderTest, tmp_path: Path) -> Iterator[SandboxUnderTest]:
    """Namespaces team and lab are somebody else's; a snapshot is kept."""
    apply(started, namespace("team"), config_map("team", "settings", a="1"), namespace("lab"))
    with somebodys(started, tmp_path):
        cluster.snapshot(show=False).save(cluster.snapshot_file(cluster.course_folder()))
        watching.in_lesson("00-kubernetes")
        yield started
    started.kubectl("delete", "namespace", "team", "lab", "mine", "--ignore-not-found")
    started.kubectl("delete", "crd", "rings.example.istio.io", "--ignore-not-found")


def marks(kind: str, name: str, namespace: str = "") -> tuple[str, str, str]:
    (one,) = cluster.get(kind, name, namespace=namespace)
    labels, notes = one["metadata"].get("labels", {}), one["metadata"].get("annotations", {})
    return labels.get(COURSE, ""), notes.get(LESSON, ""), notes.get(RUN, "")


def plan() -> cluster.Plan:
    return istio.plan(istio.release("1.30.3"))


def run_of() -> str:
    found = record.load(cluster.course_folder(), cluster.current().uid)
    assert found is not None
    return found.run


def test_whatever_makes_an_object_marks_it(theirs: SandboxUnderTest, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    file = tmp_path / "more" / "list.yaml"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [config_map("mine", "in-a-list")]}))
    cluster.kubectl("create namespace mine")
    cluster.apply(config_map("mine", "applied", a="1"))
    cluster.apply(tmp_path / "more")
    cluster.kubectl("create configmap created -n mine")
    cluster.kubectl(["apply", "-f", "-", "-n", "mine", "-o", "name"],
                    stdin='{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "by-name"}}')  # fmt: skip
    cluster.shell("kubectl create configmap shelled -n mine | cat")
    mine = (WORKSHOP, "00-kubernetes", run_of())
    assert marks("namespace", "mine") == mine
    for name in ("applied", "in-a-list", "created", "by-name", "shelled"):
        assert marks("configmap", name, "mine") == mine, name
    before = state(theirs)
    assert "unchanged" in cluster.apply(config_map("mine", "applied", a="1"))
    cluster.kubectl("delete configmap none -n mine --ignore-not-found")
    assert state(theirs) == before
    assert {item.thing.name for item in plan().items} == {
        "mine", "applied", "in-a-list", "created", "by-name", "shelled",
    }  # fmt: skip


def test_a_mark_starts_no_pod_again(theirs: SandboxUnderTest, tmp_path: Path) -> None:
    cluster.kubectl("create namespace mine")
    cluster.apply(istio.release(theirs.release).samples / "httpbin/httpbin.yaml", namespace="mine")

    def seen() -> cluster.Obj | None:
        """The Deployment, once its controller has made what it is told to make."""
        (one,) = cluster.get("deployment", "httpbin", namespace="mine")
        status = one.get("status", {})
        handled = status.get("observedGeneration") == one["metadata"]["generation"]
        return one if handled and status.get("updatedReplicas") == one["spec"]["replicas"] else None

    one = wait_until(seen, what="the controller to have seen the Deployment")
    assert one["metadata"]["labels"][COURSE] == WORKSHOP
    assert COURSE not in one["spec"]["template"]["metadata"]["labels"]
    assert len(cluster.get("replicasets", namespace="mine")) == 1


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("delete configmap settings -n team", "ConfigMap team/settings"),
        ("delete configmaps --all-namespaces --all", "ConfigMap mine/a-guest"),
        ("delete ns/mine", "ConfigMap mine/a-guest"),
        ("apply -f theirs.json", "ConfigMap team/settings"),
        ("-n team delete -f theirs.json --wait=false", "ConfigMap team/settings"),
        ("delete --dry-run=false configmap settings -n team", "ConfigMap team/settings"),
        ("delete -n team -- configmap settings", "ConfigMap team/settings"),
        ("--as-group system:masters --as me delete configmap settings -n team", "ConfigMap team/settings"),
        ("apply -k .", "ConfigMap team/settings"),
        ("apply -f *.json", "ConfigMap team/settings"),
    ],
)
def test_what_is_somebody_elses_is_refused(theirs: SandboxUnderTest, tmp_path: Path, command: str, named: str) -> None:
    cluster.kubectl("create namespace mine")
    apply(theirs, config_map("mine", "a-guest"))
    (tmp_path / "theirs.json").write_text(json.dumps(config_map("team", "settings", a="2")))
    (tmp_path / "kustomization.yaml").write_text("resources: [theirs.json]")
    before = state(theirs)
    with pytest.raises(ClusterError, match=r"nothing was changed\. The course did not make:") as seen:
        cluster.kubectl(command)
    assert named in str(seen.value)
    assert state(theirs) == before


@pytest.mark.parametrize(
    "command",
    [
        "delete --raw=/api/v1/namespaces/team/configmaps/settings",
        "delete --raw /api/v1/namespaces/team/configmaps/settings",
        "apply -f mine.json --prune --all --namespace team",
    ],
)
def test_what_reaches_objects_without_a_name_is_refused(theirs: SandboxUnderTest, tmp_path: Path, command: str) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(config_map("team", "mine")))
    before = state(theirs)
    with pytest.raises(ClusterError, match="reaches objects that the command does not name"):
        cluster.kubectl(command)
    assert state(theirs) == before


def test_a_copy_of_ours_is_theirs_and_so_is_what_they_took_over(theirs: SandboxUnderTest) -> None:
    cluster.apply([namespace("mine"), config_map("mine", "one"), config_map("mine", "two")])
    copy = json.loads(theirs.kubectl("get", "configmap", "one", "-n", "mine", "-o", "json").stdout)
    copy["metadata"] = {key: copy["metadata"][key] for key in ("name", "labels", "annotations")} | {"namespace": "team"}
    apply(theirs, copy)
    theirs.kubectl("label", "configmap", "two", "-n", "mine", f"{COURSE}-")
    before = state(theirs)
    chosen = plan()
    assert [str(item.thing) for item in chosen.items] == ["ConfigMap mine/one"]
    assert [(item.thing.name, item.why) for item in chosen.kept] == [
        ("mine", "ConfigMap mine/two, which the course did not make, would go with it")
    ]
    chosen.confirm(CONTEXT)
    chosen.remove()
    after = state(theirs)
    assert {before[uid][0] for uid in before.keys() - after.keys()} == {"ConfigMap mine/one"}
    assert {uid: before[uid] for uid in after} == after


def test_labels_on_a_namespace_of_theirs_are_taken_back(theirs: SandboxUnderTest) -> None:
    theirs.kubectl("label", "namespace", "team", "istio-injection=disabled")
    cluster.kubectl("label namespace team istio-injection=enabled --overwrite")
    cluster.kubectl("label namespace team stage=one")
    cluster.kubectl("label namespace lab stage=one")
    theirs.kubectl("label", "namespace", "lab", "stage=two", "--overwrite")
    assert marks("namespace", "team")[0] == ""
    chosen = plan()
    assert [(item.action, item.thing.name) for item in chosen.items] == [("labels", "lab"), ("labels", "team")]
    chosen.confirm(CONTEXT)
    chosen.remove()
    (team,), (lab,) = cluster.get("namespace", "team"), cluster.get("namespace", "lab")
    assert team["metadata"]["labels"]["istio-injection"] == "disabled"
    assert "stage" not in team["metadata"]["labels"]
    assert lab["metadata"]["labels"]["stage"] == "two", "whoever changed it since meant it"
    assert not {LABELS_BEFORE, RUN} & set(team["metadata"].get("annotations", {}))
    assert plan().items == ()


RING = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "rings.example.istio.io"},
    "spec": {
        "group": "example.istio.io",
        "scope": "Namespaced",
        "names": {"plural": "rings", "singular": "ring", "kind": "Ring"},
        "versions": [{"name": "v1", "served": True, "storage": True,
                      "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}],
    },
}  # fmt: skip
RING_OF_OLD = {
    **RING,
    "apiVersion": "apiextensions.k8s.io/v1beta1",
    "spec": {key: value for key, value in RING["spec"].items() if key != "versions"} | {"version": "v1"},  # type: ignore[attr-defined]
}


def test_a_kind_of_ours_that_they_use_stays(theirs: SandboxUnderTest) -> None:
    cluster.apply(RING if theirs.release == "1.30.3" else RING_OF_OLD)
    cluster.kubectl("wait --for=condition=Established crd rings.example.istio.io --timeout=120s")
    ring = {"apiVersion": "example.istio.io/v1", "kind": "Ring", "metadata": {"name": "r", "namespace": "team"}}
    apply(theirs, ring)
    before = state(theirs)
    chosen = plan()
    assert (chosen.items, [item.thing.name for item in chosen.kept]) == ((), ["rings.example.istio.io"])
    chosen.confirm(CONTEXT)
    chosen.remove()
    with pytest.raises(ClusterError, match="Ring team/r"):
        cluster.kubectl("delete crd rings.example.istio.io")
    assert state(theirs) == before
    theirs.kubectl("delete", "rings", "r", "-n", "team")
    again = plan()
    assert [item.thing.name for item in again.items] == ["rings.example.istio.io"]
    again.confirm(CONTEXT)
    again.remove()
    assert not cluster.exists("crd", "rings.example.istio.io")


@pytest.mark.parametrize("typed", ["", "klass"])
def test_without_the_contexts_name_nothing_is_deleted(
    theirs: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    cluster.apply([namespace("mine"), config_map("mine", "one")])
    before = state(theirs)
    chosen = plan()
    with pytest.raises(ClusterError, match="nothing was deleted: it was not confirmed"):
        chosen.remove()
    with pytest.raises(ClusterError, match="nothing was deleted: the context in use is 'class'"):
        chosen.confirm(typed)
    with pytest.raises(ClusterError, match="nothing was deleted"):
        chosen.remove()
    with pytest.raises(ClusterError, match="nothing was deleted"):
        istio.uninstall(istio.release(theirs.release), confirm=typed)
    assert state(theirs) == before
    monkeypatch.setattr("builtins.input", lambda question: CONTEXT)
    assert chosen.confirm() == CONTEXT


@pytest.mark.parametrize("kept", ["none", "another cluster's", "garbage"])
def test_without_a_snapshot_of_this_cluster_nothing_is_deleted(theirs: SandboxUnderTest, kept: str) -> None:
    cluster.apply([namespace("mine"), config_map("mine", "one")])
    file = cluster.snapshot_file(cluster.course_folder())
    file.unlink()
    if kept != "none":
        file.write_text('{"objects": [], "images": [], "cluster": "other"}' if kept != "garbage" else "{")
    before = state(theirs)
    said = {"none": "no snapshot of this cluster was kept", "garbage": "cannot be read"}.get(kept, "but of another one")
    with pytest.raises(ClusterError, match=said):
        plan().confirm(CONTEXT)
    with pytest.raises(ClusterError, match=said):
        cluster.kubectl("delete configmap one -n mine")
    with pytest.raises(ClusterError, match=said):
        cluster.kubectl("delete namespace mine", timeout=180)
    with pytest.raises(ClusterError, match=said):
        istio.uninstall(istio.release(theirs.release), confirm=CONTEXT)
    assert state(theirs) == before


def test_what_came_after_it_was_shown_is_not_deleted_unseen(theirs: SandboxUnderTest) -> None:
    cluster.apply([namespace("mine"), config_map("mine", "one")])
    chosen = plan()
    chosen.confirm(CONTEXT)
    cluster.apply(config_map("team", "later"))
    apply(theirs, config_map("mine", "a-guest"))
    chosen.remove()
    assert cluster.exists("configmap", "later", namespace="team")
    assert cluster.exists("configmap", "a-guest", namespace="mine")
    assert not cluster.exists("configmap", "one", namespace="mine")


@pytest.mark.parametrize("before_the", ["mark", "record"])
def test_an_interrupted_apply_is_marked_the_next_time(
    theirs: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch, before_the: str
) -> None:
    save = record._save

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    def killed_late(path: Path, what: record.Record) -> None:
        if what.made:
            raise KeyboardInterrupt
        save(path, what)

    apply(theirs, config_map("team", "not-ours"))
    with monkeypatch.context() as patch:
        patch.setattr(*((watching, "_mark", killed) if before_the == "mark" else (record, "_save", killed_late)))
        with pytest.raises(KeyboardInterrupt):
            cluster.apply([namespace("mine"), config_map("mine", "one")])
    assert marks("configmap", "one", "mine")[0] == ("" if before_the == "mark" else WORKSHOP)
    before = state(theirs)
    assert istio.plan(istio.release(theirs.release), settle=False).items == ()
    assert state(theirs) == before, "looking changes nothing"
    assert [str(item.thing) for item in plan().items] == ["ConfigMap mine/one", "Namespace mine"]
    assert marks("configmap", "one", "mine") == (WORKSHOP, "00-kubernetes", run_of())


def test_an_interrupted_clean_up_goes_on(theirs: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.apply([namespace("mine"), config_map("mine", "one"), config_map("team", "two")])
    delete = removal._delete

    def once(things: object) -> None:
        delete(things)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(removal, "_delete", once)
        chosen = plan()
        chosen.confirm(CONTEXT)
        with pytest.raises(KeyboardInterrupt):
            chosen.remove()
    assert not cluster.exists("configmap", "two", namespace="team")
    again = plan()
    assert [str(item.thing) for item in again.items] == ["ConfigMap mine/one", "Namespace mine"]
    again.confirm(CONTEXT)
    again.remove()
    assert not cluster.exists("namespace", "mine")
    assert cluster.exists("configmap", "settings", namespace="team")
    assert plan().items == ()
