# SPDX-License-Identifier: Apache-2.0
"""Checks, progress, the choice of a cluster, stages: what a lesson stands on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labkit import cluster, course, istio, sandbox
from labkit.cluster import Entry, Snapshot, target
from labkit.course import Check, Checklist, Progress, targets
from labkit.course.lesson import Lesson
from labkit.ground.errors import CheckError, ClusterError, SettingError
from tests.cluster.conftest import chosen
from tests.cluster.fake_kubectl import UID, FakeKubectl

READY = {"type": "Ready", "status": "True"}


def view(kubectl: FakeKubectl) -> str:
    contexts = [{"name": "kind-a", "context": {"cluster": "c"}}]
    clusters = [{"name": "c", "cluster": kubectl.api.entry}]
    return json.dumps({"current-context": "kind-a", "contexts": contexts, "clusters": clusters})


def deployment(name: str) -> dict[str, object]:
    status = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
    return {"kind": "Deployment", "metadata": {"name": name, "uid": name, "generation": 1}, "spec": {"replicas": 1},
            "status": status}  # fmt: skip


def pod(name: str, *containers: str) -> dict[str, object]:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "uid": f"p-{name}", "ownerReferences": [{"controller": True, "uid": name}]},
        "spec": {"containers": [{"name": c} for c in containers]},
        "status": {"conditions": [READY], "containerStatuses": [{"name": c, "ready": True} for c in containers]},
    }


def test_a_check_that_fails_says_what_was_seen_and_what_to_do() -> None:
    Check("two and two", True).require()
    with pytest.raises(CheckError, match="not so: six pods; seen: 5") as caught:
        Check("six pods", False, "5", "Wait.").require()
    assert caught.value.next_step == "Wait."
    Check("nice to have", False, needed=False).require()


def test_a_checklist_names_all_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    checks = Checklist([Check("a", True, "1"), Check("b", False, "2", "Do B."), Check("c", False, needed=False)])
    with pytest.raises(CheckError, match=r"^not so: b; seen: 2"):
        checks.require()
    shown = capsys.readouterr().out
    assert "✔  a      1" in shown
    assert "✘  b      2     Do B." in shown
    assert "⚠  c" in shown
    assert Checklist([checks[0]]).require()[0].name == "a"
    assert "Next step" not in str(Checklist([checks[0]]))


def test_progress_is_kept_and_a_damaged_file_costs_only_ticks(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "course")
    progress.passed("02-bookinfo", "six pods")
    progress.passed("02-bookinfo", "2/2")
    progress.finish("00-kubernetes")
    again = Progress(tmp_path / "course")
    assert set(again.lessons["02-bookinfo"]) == {"six pods", "2/2"}
    text = again.rich("02-bookinfo").text.splitlines()
    assert text[1].startswith("✔  00-kubernetes")
    assert text[3].split()[:2] == ["▶", "02-bookinfo"]
    assert (tmp_path / "course").stat().st_mode & 0o077 == 0
    (tmp_path / "course" / "progress.json").write_text("[1]")
    assert Progress(tmp_path / "course").lessons == {}
    again.forget()
    assert Progress(tmp_path / "course").finished == {}


def test_progress_lies_beside_a_sandbox_and_by_uid_for_other_clusters(kubectl: FakeKubectl, tmp_path: Path) -> None:
    folder = tmp_path / "labkit" / "sandboxes" / "default"
    folder.mkdir(parents=True)
    target._state = chosen(folder / "kubeconfig")
    assert Progress.of_target().folder == folder / "course"
    target._state = chosen(tmp_path / "elsewhere")
    assert Progress.of_target().folder == tmp_path / "labkit" / "course" / UID


class Labkit:
    """A labkit command line that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, *words: str) -> str:
        self.asked.append(" ".join(words))
        return "running\n"


def made_with(home: Path, name: str, release: str) -> None:
    """A sandbox that was started with a release, as its folder says."""
    folder = home / "sandboxes" / name
    folder.mkdir(parents=True)
    (folder / "release").write_text(release)


@pytest.mark.parametrize(
    ("known", "release", "up"),
    [
        ({}, "1.2.2", "up --release 1.2.2"),
        ({"default": "1.2.2"}, "1.2.2", "up --release 1.2.2"),
        ({"default": "1.2.2"}, "1.30.3", "up --name istio-1-30-3 --release 1.30.3"),
        ({"default": "1.30.3", "istio-1-2-2": "1.2.2"}, "1.2.2", "up --name istio-1-2-2 --release 1.2.2"),
        ({"default": "1.30.3", "istio-1-2-2": "1.30.3"}, "1.2.2", "up --name istio-1-2-2-2 --release 1.2.2"),
    ],
)
def test_a_sandbox_of_the_right_release_is_started(
    kubectl: FakeKubectl,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    known: dict[str, str],
    release: str,
    up: str,
) -> None:
    labkit = Labkit()
    for other, plays in known.items():
        made_with(tmp_path / "labkit", other, plays)
    monkeypatch.setattr(sandbox, "call", labkit)
    monkeypatch.setenv("KUBECONFIG", "/the/reader's/own")
    kubectl.answer("view", stdout=view(kubectl))
    chosen = targets.choose("sandbox", release)
    assert labkit.asked == [up], "a process of Python takes a tenth of a second"
    name = up.split("--name ")[-1].split()[0] if "--name" in up else "default"
    assert chosen.named.kubeconfig == str(tmp_path / "labkit" / "sandboxes" / name / "kubeconfig")
    assert cluster.current() == chosen


def test_the_sandbox_of_the_environment_is_taken(
    kubectl: FakeKubectl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    labkit = Labkit()
    monkeypatch.setattr(sandbox, "call", labkit)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "labkit" / "sandboxes" / "class-2" / "kubeconfig"))
    kubectl.answer("view", stdout=view(kubectl))
    for _ in range(2):
        # In the kernel of a lesson that has begun before, KUBECONFIG is one of our own.
        labkit.asked.clear()
        targets.choose("sandbox", "1.30.3")
        assert labkit.asked == ["up --name class-2 --release 1.30.3"]
    made_with(tmp_path / "labkit", "class-2", "1.30.3")
    labkit.asked.clear()
    targets.choose("sandbox", "1.2.2")
    assert labkit.asked[0] == "up --release 1.2.2", "it plays the other release, and goes on doing so"


def test_a_context_of_the_readers_own(kubectl: FakeKubectl, monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl.answer("view", code=1, stderr="error: cannot locate context nope")
    kubectl.answer("view", "kind-a", stdout=view(kubectl))
    kubectl.answer("get-contexts", stdout="kind-a\nprod\n")
    monkeypatch.setenv("KUBECONFIG", "/k")
    chosen = targets.choose("kind-a", "1.30.3")
    assert chosen.named == cluster.Target("/k", "kind-a")
    assert (chosen.server, chosen.uid) == (kubectl.api.url, UID)
    with pytest.raises(SettingError, match="TARGET = 'nope' is no context of /k") as caught:
        targets.choose("nope", "1.30.3")
    assert "kind-a, prod" in caught.value.next_step


def test_a_sandbox_that_cannot_start_says_why(as_before: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    (tmp_path / "home").write_text("a file in the way")
    with pytest.raises(SettingError, match=r"`labkit up --release 1\.2\.2` failed: cannot write to"):
        targets.choose("sandbox", "1.2.2")


@pytest.fixture
def lesson(tmp_path: Path) -> Lesson:
    return Lesson("02-bookinfo", istio.release("1.2.2"), Progress(tmp_path / "course"))


def test_lesson_checks_are_remembered(lesson: Lesson, capsys: pytest.CaptureFixture[str]) -> None:
    lesson.check("six pods run", [1], seen=6)
    assert capsys.readouterr().out == "✔ six pods run: 6\n"
    with pytest.raises(CheckError, match="not so: 2/2"):
        lesson.check("2/2", False)
    assert list(lesson.progress.lessons["02-bookinfo"]) == ["six pods run"]
    lesson.done()
    assert "02-bookinfo" in lesson.progress.finished


def test_a_snapshot_from_before_istio_stays(lesson: Lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = Snapshot(frozenset({Entry("Namespace", "", "default")}), frozenset())
    crd = Entry("CustomResourceDefinition", "", "gateways.networking.istio.io")
    monkeypatch.setattr(cluster, "snapshot", lambda show=True: clean)
    assert lesson.keep_snapshot() == clean
    monkeypatch.setattr(cluster, "snapshot", lambda show=True: Snapshot(clean.entries | {crd}, frozenset()))
    lesson.keep_snapshot()
    assert lesson.kept_snapshot() == clean


def test_an_unknown_lesson_or_stage_is_told(as_before: None) -> None:
    with pytest.raises(CheckError, match="no lesson '04-nope'") as caught:
        course.begin("04-nope", "1.2.2")
    assert "03-ingress" in caught.value.next_step
    with pytest.raises(CheckError, match="no stage 'nope'"):
        course.catch_up("nope", "1.2.2")


def test_stages_say_which_lesson_brings_them(kubectl: FakeKubectl) -> None:
    kubectl.api.items = []
    release = istio.release("1.2.2")
    check = course.STAGES["bookinfo"].check(release)
    assert not check.passed
    assert check.seen == "details-v1, productpage-v1, ratings-v1, reviews-v1, reviews-v2, reviews-v3 not there"
    assert "Play 02-bookinfo first" in check.next_step
    assert 'course.catch_up("bookinfo", "1.2.2")' in check.next_step


def test_bookinfo_without_sidecars_is_not_there(kubectl: FakeKubectl) -> None:
    from labkit import bookinfo

    items = [deployment(name) for name in bookinfo.WORKLOADS]
    items += [pod(name, "app", "istio-proxy") for name in bookinfo.WORKLOADS[1:]]
    release = istio.release("1.30.3")
    kubectl.api.items = [*items, pod("details-v1", "app")]
    assert course.STAGES["bookinfo"].check(release).seen == "no sidecar in details-v1"
    items += [pod("details-v1", "app", "istio-proxy"), deployment("front-istio"), pod("front-istio", "istio-proxy")]
    kubectl.api.items = items
    assert course.STAGES["bookinfo"].check(release).passed, "a gateway needs none"


def node(ready: str) -> dict[str, object]:
    return {"kind": "Node", "metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


def test_preflight_gives_reasons(kubectl: FakeKubectl, tmp_path: Path) -> None:
    folder = tmp_path / "labkit" / "sandboxes" / "default"
    folder.mkdir(parents=True)
    target._state = chosen(folder / "kubeconfig", entry=kubectl.api.entry)
    crd = {"kind": "CustomResourceDefinition", "metadata": {"name": "gateways.networking.istio.io"}}
    kubectl.api.items = [node("False"), crd]
    kubectl.api.rights = {"create namespaces", "delete namespaces"}
    seen = {check.name: check for check in course.preflight(istio.release("1.2.2"))}
    assert seen["The Kubernetes API answers"].seen == "v1.35.0"
    assert seen["Every node is ready"].seen == "0 of 1 ready; not: n1"
    kinds = seen["This Kubernetes serves what Istio 1.2.2 is made of"]
    assert not kinds.passed
    assert "extensions/v1beta1" in kinds.seen
    assert "1.30.3" in kinds.next_step
    rights = seen["You may install Istio"]
    assert "create clusterroles" in rights.seen
    assert "create namespaces" not in rights.seen
    untouched = seen["The cluster has no Istio yet"]
    assert (untouched.passed, untouched.needed, untouched.seen) == (False, False, "1 kinds of Istio's are installed")


def test_preflight_does_not_take_a_fault_for_a_no(kubectl: FakeKubectl) -> None:
    kubectl.api.items = [node("True")]
    failed = {"kind": "Status", "code": 500, "reason": "InternalError", "message": "the database is down"}
    kubectl.api.answers["/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"] = failed
    with pytest.raises(ClusterError, match="the database is down"):
        course.preflight(istio.release("1.2.2"))
