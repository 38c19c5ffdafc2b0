# SPDX-License-Identifier: Apache-2.0
"""Which cluster is talked to: none that nobody chose, and the chosen one only, whatever becomes of its kubeconfig."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labkit import bookinfo, cluster, course, istio, ui
from labkit.cluster import Target
from labkit.cluster.kubeconfig import NO_CLUSTER
from labkit.ground import files
from labkit.ground.errors import ClusterError, NoTargetError, SettingError
from labkit.observe.kiali import Kiali
from labkit.ui import embed_launcher
from tests.cluster.api_like import ApiLike, kubeconfig
from tests.cluster.conftest import plain_kubectl
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.usefixtures("as_before", "home")

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default}\n"

HELPERS: dict[str, Callable[[], Any]] = {
    "kubectl": lambda: cluster.kubectl("delete namespaces --all"),
    "a local command of kubectl's": lambda: cluster.kubectl("config view"),
    "a command with a mistake": lambda: cluster.kubectl("get pods 'x"),
    "shell": lambda: cluster.shell("kubectl get pods"),
    "apply": lambda: cluster.apply(MAP),
    "apply of a file": lambda: cluster.apply("samples/httpbin/httpbin.yaml"),
    "delete": lambda: cluster.delete(MAP),
    "get": lambda: cluster.get("pods"),
    "exists": lambda: cluster.exists("namespace", "default"),
    "table": lambda: cluster.table("pods"),
    "exec": lambda: cluster.exec("pod", "true"),
    "readiness": lambda: cluster.readiness("default"),
    "wait_for": lambda: cluster.wait_for(cluster.Ready("default"), timeout=600),
    "port_forward": lambda: cluster.port_forward("svc/a", 80),
    "snapshot": lambda: cluster.snapshot(),
    "images": lambda: cluster.images(),
    "remove_images": lambda: cluster.remove_images([cluster.NodeImage("n", "r", "t", 1)]),
    "preflight": lambda: course.preflight(istio.release("1.30.3")),
    "catch_up": lambda: course.catch_up("istio", "1.30.3"),
    "progress": lambda: course.Progress.of_target(),
    "install": lambda: istio.install(istio.release("1.30.3")),
    "uninstall": lambda: istio.uninstall(istio.release("1.30.3")),
    "verify": lambda: istio.verify(istio.release("1.30.3")),
    "diagnose": lambda: istio.diagnose(),
    "ingress": lambda: istio.ingress(),
    "bookinfo": lambda: bookinfo.deploy(istio.release("1.30.3")),
    "Kiali": lambda: Kiali.of_cluster("http://127.0.0.1:9"),
    "ready": lambda: ui.ready("default", timeout=600),
    "embed": lambda: ui.embed("kiali"),
    "address_of": lambda: ui.address_of("prometheus"),
}


def at_an_address(url: str) -> dict[str, Callable[[], Any]]:
    """Helpers that are given an address or a path, which an earlier cell may have found for another cluster."""
    return {
        "fetch": lambda: cluster.fetch(url),
        "wait for an answer": lambda: cluster.wait_for(cluster.Answers(url), timeout=600),
        "page": lambda: bookinfo.page(url),
        "load": lambda: bookinfo.load(url, 2),
        "show_yaml": lambda: ui.show_yaml("samples/httpbin/httpbin.yaml"),
        "log in": lambda: Kiali(url, user="admin", password="x"),
    }


@pytest.mark.parametrize("name", HELPERS)
def test_before_a_choice_every_helper_refuses(
    name: str, api: ApiLike, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "own", {"mine": api.entry})))
    with pytest.raises(NoTargetError, match="no cluster was chosen here yet") as caught:
        HELPERS[name]()
    assert "first cell" in caught.value.next_step
    assert api.connections == 0


def test_after_a_failed_choice_every_helper_says_why(api: ApiLike, other: ApiLike, tmp_path: Path) -> None:
    own = kubeconfig(tmp_path / "own", {"a": api.entry, "b": other.entry})
    cluster.use(Target(str(own), "a"))
    before = api.connections
    with pytest.raises(SettingError, match=r"TARGET = 'c' is no context of .*own") as failed:
        cluster.use(Target(str(own), "c"))
    assert "a, b" in failed.value.next_step
    for name, helper in {**HELPERS, **at_an_address("http://127.0.0.1:9/x")}.items():
        with pytest.raises(NoTargetError, match="choosing one failed: TARGET = 'c' is no context of") as caught:
            helper()
        assert "Choose one of a, b, or 'sandbox'; then run the lesson's first cell again." in str(caught.value), name
    said = plain_kubectl("delete", "namespaces", "--all")
    assert said.returncode != 0
    assert "TARGET = 'c' is no context of" in said.stderr
    assert "run the lesson's first cell again" in said.stderr
    assert (api.connections, other.connections) == (before, 0)


def test_a_lesson_that_cannot_begin_leaves_no_cluster(api: ApiLike, tmp_path: Path) -> None:
    cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": api.entry}))))
    with pytest.raises(course.lesson.CheckError, match="there is no lesson '99-nope'"):
        course.begin("99-nope", "1.30.3", "a")
    with pytest.raises(NoTargetError, match="there is no lesson '99-nope'"):
        cluster.kubectl("get pods")


def test_a_lesson_whose_release_cannot_be_had_leaves_no_cluster(api: ApiLike, home: Path, tmp_path: Path) -> None:
    kubeconfig(tmp_path / "home" / ".kube" / "config", {"mine": api.entry})
    with pytest.raises(SettingError, match=r"9\.9\.9"):
        course.begin("99-clean-up", "9.9.9", "mine")
    before = api.connections
    with pytest.raises(NoTargetError, match=r"9\.9\.9"):
        cluster.kubectl("delete virtualservices --all -n bookinfo")
    assert api.connections == before


@pytest.mark.parametrize("target", ["", "sandbox", "nope"])
def test_a_target_that_cannot_be_had(target: str, home: Path, api: ApiLike, tmp_path: Path) -> None:
    kubeconfig(tmp_path / "home" / ".kube" / "config", {"mine": api.entry})
    home.write_text("a file in the way")
    reasons = {
        "": "the sandbox could not start: `labkit up --release 1.30.3` failed: cannot write to",
        "sandbox": "the sandbox could not start: `labkit up --release 1.30.3` failed: cannot write to",
        "nope": "TARGET = 'nope' is no context of ~/.kube/config",
    }
    with pytest.raises(SettingError) as failed:
        course.begin("99-clean-up", "1.30.3", target)
    assert failed.value.message.startswith(reasons[target])
    with pytest.raises(NoTargetError) as refused:
        cluster.kubectl("delete virtualservices --all -n bookinfo")
    assert reasons[target] in refused.value.message
    assert reasons[target] in plain_kubectl("delete", "namespaces", "--all").stderr
    assert api.connections == 0


def test_no_target_is_none(api: ApiLike, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Least of all the current context of what $KUBECONFIG names."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "own", {"a": api.entry})))
    with pytest.raises(SettingError, match="TARGET names no cluster"):
        course.targets.choose("", "1.30.3")
    assert api.connections == 0


def test_an_interrupted_choice_is_none(api: ApiLike, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": api.entry}))))
    monkeypatch.setattr("labkit.course.targets._sandbox", interrupted)
    with pytest.raises(KeyboardInterrupt):
        course.begin("00-kubernetes", "1.30.3")
    with pytest.raises(NoTargetError, match="it was interrupted"):
        cluster.get("pods")


def test_a_cluster_that_does_not_answer_is_not_chosen(unreachable: Target) -> None:
    with pytest.raises(ClusterError, match="was refused"):
        cluster.use(unreachable)
    with pytest.raises(NoTargetError, match=r"The connection to the server 127\.255\.255\.254:6443 was refused"):
        cluster.get("pods")


def test_whatever_is_current_is_no_choice(api: ApiLike, tmp_path: Path) -> None:
    kubeconfig(tmp_path / "home" / ".kube" / "config", {"mine": api.entry})
    with pytest.raises(SettingError, match="the current context may be anybody's"):
        cluster.use(Target())
    assert api.connections == 0


@pytest.mark.parametrize("user", [None, {}, {"token": ""}])
def test_a_cluster_without_a_server_is_no_target(user: dict[str, str] | None, tmp_path: Path) -> None:
    own = kubeconfig(tmp_path / "own", {"a": {}}, user=user)
    with pytest.raises(SettingError, match="names no cluster with a server"):
        cluster.use(Target(str(own)))


def test_what_leads_nowhere_never_leads_somewhere_else(api: ApiLike, tmp_path: Path) -> None:
    """kubectl falls back on localhost:8080, or on the cluster it runs in, where its kubeconfig is empty."""
    kubeconfig(tmp_path / "home" / ".kube" / "config", {"mine": api.entry})
    host, port = api.url.removeprefix("https://").split(":")
    inside = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    with pytest.raises(SettingError):
        cluster.use(Target("", "nope"))
    for variable, words in (
        (os.environ["KUBECONFIG"], "TARGET = 'nope' is no context"),
        (f"{tmp_path}/gone:{NO_CLUSTER}", "no cluster was chosen here"),
        (str(NO_CLUSTER), "no cluster was chosen here"),
    ):
        for command in (
            "get pods",
            "apply -f x",
            "delete ns --all",
            "version",
            "port-forward svc/a 1",
            "run a --image=b",
        ):
            said = plain_kubectl(*command.split(), KUBECONFIG=variable, **inside)
            assert said.returncode != 0
            assert words in said.stderr, command
            assert "localhost" not in said.stderr
    assert api.connections == 0


def test_a_pod_on_binder_leads_nowhere_without_its_sandbox(api: ApiLike, tmp_path: Path) -> None:
    host, port = api.url.removeprefix("https://").split(":")
    inside = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "kubectl").symlink_to(cluster.kubectl_program())
    (programs / "labkit").write_text("#!/bin/sh\nexit 1\n")
    (programs / "labkit").chmod(0o755)
    environment = {**os.environ, **inside, "PATH": f"{programs}:{os.environ['PATH']}"}
    start = [str(REPOSITORY / "binder" / "start"), "kubectl", "delete", "namespaces", "--all"]
    said = subprocess.run(start, env=environment, cwd="/", capture_output=True, text=True, timeout=300)
    assert "notebook 00 says why" in said.stderr
    assert "no cluster was chosen here" in said.stderr
    assert said.returncode != 0
    assert api.connections == 0


def test_a_tile_goes_with_its_sandbox_to_another_address(api: ApiLike, other: ApiLike, home: Path) -> None:
    tile = embed_launcher._Sandbox()
    with pytest.raises(NoTargetError, match="there is no sandbox 'default' here"):
        tile.choose()
    own = home / "sandboxes" / "default" / "kubeconfig"
    for now in (api, other):
        fresh = kubeconfig(home / "fresh", {"labkit-default": now.entry})
        own.parent.mkdir(parents=True, exist_ok=True)
        files.write(own, fresh.read_bytes())
        assert [tile.choose().uid, tile.choose().uid] == [now.uid, now.uid]
        asked = now.connections
        assert tile.choose() == cluster.current()
        assert now.connections == asked


def test_a_tile_follows_the_release_of_the_course(api: ApiLike, other: ApiLike, home: Path) -> None:
    tile = embed_launcher._Sandbox()
    for name, release, now in (("default", "1.30.3", api), ("istio-1-2-2", "1.2.2", other)):
        kubeconfig(home / "sandboxes" / name / "kubeconfig", {f"labkit-{name}": now.entry})
        (home / "sandboxes" / name / "release").write_text(release)
    for release, now in (("", api), ("1.2.2", other), ("1.30.3", api)):
        course.choose(release=release)
        assert tile.choose().uid == now.uid


def test_a_context_is_not_used_where_no_kubeconfig_can_be_kept(api: ApiLike, home: Path, tmp_path: Path) -> None:
    own = kubeconfig(tmp_path / "own", {"a": api.entry})
    home.write_text("a file in the way")
    with pytest.raises(SettingError, match="cannot be written to") as caught:
        cluster.use(Target(str(own), "a"))
    assert "LABKIT_HOME" in caught.value.next_step
    with pytest.raises(NoTargetError, match="cannot be written to"):
        cluster.get("pods")
    assert api.connections == 0


def test_a_folder_that_kubectl_would_split_is_refused(
    api: ApiLike, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "a:b"))
    with pytest.raises(SettingError, match="cannot be used: it holds ':'"):
        cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": api.entry})), "a"))
    assert api.connections == 0


def test_where_contexts_are_looked_up_does_not_depend_on_the_folder(
    api: ApiLike, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig(tmp_path / "own", {"a": api.entry})
    monkeypatch.setenv("KUBECONFIG", "own:other")
    monkeypatch.chdir(tmp_path)
    cluster.use(Target.from_environment("a"))
    monkeypatch.chdir("/")
    assert Target.from_environment().kubeconfig == f"{tmp_path / 'own'}:{tmp_path / 'other'}"
    assert cluster.use(Target.from_environment("a")).uid == "uid-a"


def test_in_a_notebook_labkit_alone_keeps_cells_from_the_readers_cluster(api: ApiLike, tmp_path: Path) -> None:
    """Where a first cell fails before it has begun a lesson."""
    from tests.course.test_course_runner import notebook

    environment = {**os.environ, "KUBECONFIG": str(kubeconfig(tmp_path / "own", {"mine": api.entry}))}
    code = (
        "import sys\nfrom pathlib import Path\nfrom labkit.course import runner\n"
        "result = runner.play(Path(sys.argv[1]), Path(sys.argv[2]), {})\nprint(result)\n"
    )
    path = notebook(
        tmp_path, "own", ("imports", "from labkit import course"), ("deletes", "!kubectl delete namespaces --all")
    )
    out = tmp_path / "out.ipynb"
    subprocess.run([sys.executable, "-c", code, str(path), str(out)], env=environment, timeout=60, check=True)
    assert "no cluster was chosen here yet" in out.read_text()
    assert api.connections == 0
