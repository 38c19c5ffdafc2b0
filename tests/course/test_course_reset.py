# SPDX-License-Identifier: Apache-2.0
"""Any lesson's start: which lesson is meant, and what is there then, whatever was there before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from labkit import cluster
from labkit.cli import main
from labkit.course import LESSONS, Progress, lessons
from labkit.course.reset import lesson_named, stages_before
from labkit.ground.errors import CheckError
from tests.conftest import SandboxUnderTest

RELEASES = ["1.2.2", "1.30.3"]


@pytest.mark.parametrize(
    ("word", "lesson"),
    [
        ("05", "05-grafana"),
        ("5", "05-grafana"),
        ("05-grafana", "05-grafana"),
        ("0", "00-kubernetes"),
        ("99", "99-clean-up"),
    ],
)
def test_a_lesson_by_its_number_or_name(word: str, lesson: str) -> None:
    assert lesson_named(word, "1.30.3") == lesson


@pytest.mark.parametrize("word", ["77", "grafana", "", "-", "05-kiali", "٥"])
def test_no_such_lesson(word: str) -> None:
    with pytest.raises(CheckError, match="there is no lesson") as caught:
        lesson_named(word, "1.30.3")
    assert "05-grafana" in caught.value.next_step


@pytest.mark.parametrize("word", ["14", "14-who-may"])
def test_a_lesson_that_the_release_does_not_have(word: str) -> None:
    with pytest.raises(CheckError, match=r"Istio 1\.2\.2 does not have yet") as caught:
        lesson_named(word, "1.2.2")
    assert "--release 1.30.3" in caught.value.next_step


def test_each_lesson_begins_with_what_those_before_it_bring() -> None:
    names = {lesson: " ".join(stage.name for stage in stages_before(lesson)) for lesson in LESSONS}
    assert [names.pop(lesson) for lesson in list(LESSONS)[:4]] == ["", "", "istio", "istio bookinfo"]
    assert set(names.values()) == {"istio bookinfo gateway destination-rules"}


def objects(sandbox: SandboxUnderTest) -> set[str]:
    """All that is there, by kind and name, save for what comes and goes by itself or has a name made up for it."""
    kinds = "namespaces,deployments,services,configmaps,crd"
    kinds += ",virtualservices,destinationrules,gateways.networking.istio.io" if crds(sandbox) else ""
    items = json.loads(sandbox.kubectl("get", kinds, "-A", "-o", "json").stdout)["items"]
    return {f"{one['kind']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}" for one in items}


def crds(sandbox: SandboxUnderTest) -> bool:
    return "virtualservices" in sandbox.kubectl("get", "crd", "-o", "name").stdout


@pytest.fixture
def sandbox(
    request: pytest.FixtureRequest, start_sandbox: Callable[..., SandboxUnderTest], monkeypatch: pytest.MonkeyPatch
) -> Iterator[SandboxUnderTest]:
    made = start_sandbox(request.param, name="default")
    monkeypatch.setenv("LABKIT_HOME", str(made.labkit_home))
    monkeypatch.setenv("KUBECONFIG", str(made.kubeconfig))
    monkeypatch.chdir(made.labkit_home)
    yield made
    cluster.leave()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("sandbox", RELEASES, indirect=True)
def test_from_wherever_one_is(sandbox: SandboxUnderTest, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of the states that lessons begin with, after a mess was made; the ticks stay."""
    empty = objects(sandbox)
    progress = Progress(sandbox.labkit_home / "sandboxes" / "default" / "course")
    progress.finish("00-kubernetes")

    def go(to: str) -> set[str]:
        assert main(["course", "reset", "--to", to, "--release", sandbox.release]) == 0
        said = capsys.readouterr()
        assert f"The cluster is as it is before {lesson_named(to, sandbox.release)}." in said.out
        return objects(sandbox)

    later = go("04")
    rules = {one for one in later if one.startswith(("VirtualService bookinfo/", "DestinationRule bookinfo/"))}
    assert "VirtualService bookinfo/bookinfo" in rules
    assert "DestinationRule bookinfo/reviews" in rules
    sandbox.kubectl("scale", "deployment", "reviews-v1", "-n", "bookinfo", "--replicas=2")
    sandbox.kubectl("delete", "deployment", "ratings-v1", "-n", "bookinfo")
    sandbox.kubectl("delete", "virtualservice", "bookinfo", "-n", "bookinfo")
    sandbox.kubectl("create", "namespace", "partner")
    sandbox.kubectl("create", "configmap", "mine", "-n", "default")
    assert go(list(lessons(sandbox.release))[-2]) == later
    scaled = sandbox.kubectl("get", "deployment", "reviews-v1", "-n", "bookinfo", "-o", "jsonpath={.spec.replicas}")
    assert scaled.stdout == "1"
    assert go("3") == later - rules - {"Gateway bookinfo/bookinfo-gateway"}
    assert not {one for one in go("02") if "bookinfo" in one}
    assert crds(sandbox)
    assert go("00") == empty
    assert set(Progress(progress.folder).finished) == {"00-kubernetes"}
