"""Which cluster is talked to: none that nobody chose, and the chosen one only, whatever becomes of its kubeconfig."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import bookinfo, cluster, course, istio, ui
from labkit.cluster import Target
from labkit.cluster.kubeconfig import NO_CLUSTER
from labkit.errors import ClusterError, NoTargetError, SettingError
from labkit.observe.kiali import Kiali
from tests.cluster.api_like import ApiLike, api_like, kubeconfig
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.usefixtures("as_before")

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
    "delete_namespace": lambda: cluster.delete_namespace("default"),
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
    "show_yaml": lambda: ui.show_yaml("samples/httpbin/httpbin.yaml"),
    "embed": lambda: ui.embed("kiali"),
    "address_of": lambda: ui.address_of("prometheus"),
}


def at_an_address(url: str) -> dict[str, Callable[[], Any]]:
    """Helpers that are given an address, which an earlier cell may have found on another cluster."""
    return {
        "fetch": lambda: cluster.fetch(url),
        "wait for an answer": lambda: cluster.wait_for(cluster.Answers(url), timeout=600),
        "page": lambda: bookinfo.page(url),
        "load": lambda: bookinfo.load(url, 2),
        "log in": lambda: Kiali(url, user="admin", password="x"),
    }


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiLike]:
    with api_like(tmp_path) as one:
        yield one


@pytest.fixture
def other(tmp_path: Path) -> Iterator[ApiLike]:
    with api_like(tmp_path, "uid-of-another") as one:
        yield one


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A HOME whose own kubeconfig does not exist, and a LABKIT_HOME."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "labkit"))
    monkeypatch.setenv("KUBECONFIG", "")
    cluster.leave()
    return tmp_path / "labkit"


def plain_kubectl(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """kubectl as `!kubectl` and `%%bash` run it: with this process's environment."""
    program = cluster.kubectl_program()
    return subprocess.run([program, *words], env={**os.environ, **more}, capture_output=True, text=True, timeout=60)


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


@pytest.mark.parametrize("target", ["", "sandbox", "nope"])
def test_a_target_that_cannot_be_had(target: str, home: Path, api: ApiLike, tmp_path: Path) -> None:
    kubeconfig(tmp_path / "home" / ".kube" / "config", {"mine": api.entry})
    home.write_text("a file in the way")
    reasons = {
        "": "TARGET names no cluster",
        "sandbox": "the sandbox could not start: `labkit up --release 1.30.3` failed: cannot write to",
        "nope": "TARGET = 'nope' is no context of ~/.kube/config",
    }
    with pytest.raises(SettingError) as failed:
        course.begin("09-clean-up", "1.30.3", target)
    assert failed.value.message.startswith(reasons[target])
    with pytest.raises(NoTargetError) as refused:
        cluster.kubectl("delete virtualservices --all -n bookinfo")
    assert reasons[target] in refused.value.message
    assert reasons[target] in plain_kubectl("delete", "namespaces", "--all").stderr
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


def test_the_chosen_cluster_gets_a_kubeconfig_of_our_own(
    api: ApiLike, other: ApiLike, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = kubeconfig(tmp_path / "own", {"a": api.entry, "b": other.entry})
    monkeypatch.setenv("KUBECONFIG", str(own))
    before = own.read_bytes()
    chosen = cluster.use(Target.from_environment("b"))
    assert (chosen.context, chosen.server, chosen.uid) == ("b", other.url, "uid-of-another")
    assert (chosen.file.parent, chosen.file.stat().st_mode & 0o777) == (home / "targets", 0o600)
    assert chosen.file.parent.stat().st_mode & 0o077 == 0
    kept = json.loads(chosen.file.read_text())
    assert [entry["name"] for entry in (*kept["contexts"], *kept["clusters"])] == ["b", "b"]
    assert os.environ["KUBECONFIG"] == f"{chosen.file}:{NO_CLUSTER}"
    assert plain_kubectl("config", "get-contexts", "-o", "name").stdout == "b\n"
    assert cluster.shell("kubectl get namespaces -o name", show=False) == "namespace/kube-system\n"
    assert cluster.current() == chosen
    assert Target.from_environment("a") == Target(str(own), "a"), "where TARGET is looked up is the reader's own file"
    assert own.read_bytes() == before
    assert api.connections == 0
    cluster.leave()
    assert os.environ["KUBECONFIG"] == str(own)


def test_a_context_that_is_switched_or_led_elsewhere_changes_nothing(
    api: ApiLike, other: ApiLike, tmp_path: Path
) -> None:
    own = kubeconfig(tmp_path / "own", {"a": api.entry, "b": other.entry}, current="a")
    for target in (Target(str(own)), Target(str(own), "a")):
        kubeconfig(own, {"a": api.entry, "b": other.entry}, current="a")
        cluster.use(target)
        for clusters, current in (
            ({"a": api.entry, "b": other.entry}, "b"),  # kubectl config use-context b
            ({"renamed": api.entry, "b": other.entry}, "b"),
            ({"a": other.entry}, "a"),  # another server by that name
        ):
            kubeconfig(own, clusters, current=current)
            cluster.shell("kubectl delete configmap x -n default || true", show=False)
            assert cluster.get("namespaces")[0]["metadata"]["uid"] == "uid-a"
            assert "uid-a" in plain_kubectl("get", "namespaces", "-o", "yaml").stdout
        own.unlink()
        assert cluster.get("namespaces")[0]["metadata"]["uid"] == "uid-a"
    assert other.connections == 0


LOGINS = {
    "token": {"token": "a-token"},
    # Nothing a request of our own is made with, so kubectl has to ask.
    "password": {"username": "me", "password": "secret"},
}


@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize(
    "write",
    [
        lambda: cluster.kubectl("delete configmap x -n default"),
        lambda: cluster.apply(MAP),
        lambda: cluster.shell("kubectl delete configmap x"),
        lambda: cluster.port_forward("svc/a", 80),
    ],
    ids=["kubectl", "apply", "shell", "port-forward"],
)
def test_another_cluster_at_the_same_address_is_not_written_to(
    login: str, write: Callable[[], Any], api: ApiLike, tmp_path: Path
) -> None:
    own = kubeconfig(tmp_path / "own", {"a": api.entry}, user=LOGINS[login])
    cluster.use(Target(str(own), "a"))
    assert cluster.get("namespaces")
    api.uid = "uid-b"
    api.requests.clear()
    with pytest.raises(NoTargetError, match="kube-system is uid-b, not uid-a") as caught:
        write()
    assert f"another cluster than the one that was chosen answers at {api.url}" in caught.value.message
    assert "first cell again" in caught.value.next_step
    assert {request.partition(" ")[0] for request in api.requests} == {"GET"}
    count = api.connections
    with pytest.raises(NoTargetError, match="kube-system is uid-b, not uid-a"):
        cluster.get("namespaces")
    assert "kube-system is uid-b, not uid-a" in plain_kubectl("delete", "configmap", "x").stderr
    assert api.connections == count, "from then on it is left alone, by cells as well"
    assert cluster.use(Target(str(own), "a")).uid == "uid-b"


def test_with_a_token_reading_notices_as_well(api: ApiLike, tmp_path: Path) -> None:
    cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": api.entry}))))
    api.uid = "uid-b"
    with pytest.raises(NoTargetError, match="kube-system is uid-b, not uid-a"):
        cluster.get("namespaces")


def test_a_cluster_that_is_gone_is_not_taken_for_another(api: ApiLike, tmp_path: Path) -> None:
    chosen = cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": api.entry}))))
    api.server.shutdown()
    api.server.server_close()
    for words in ("get namespaces", "delete configmap x"):
        with pytest.raises(ClusterError, match="refused"):
            cluster.kubectl(words, show=False)
    assert cluster.current() == chosen


@pytest.mark.parametrize("fault", ["gone", "damaged", "led elsewhere"])
def test_our_own_kubeconfig_is_not_believed_blindly(fault: str, api: ApiLike, other: ApiLike, tmp_path: Path) -> None:
    chosen = cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": api.entry}))))
    if fault == "gone":
        chosen.file.unlink()
    elif fault == "damaged":
        chosen.file.write_text("[" * 100)
    else:
        assert plain_kubectl("config", "set-cluster", "a", f"--server={other.url}").returncode == 0
    with pytest.raises(NoTargetError, match="damaged or gone" if fault != "led elsewhere" else "it leads to"):
        cluster.kubectl("get namespaces")
    assert other.connections == 0


def test_a_namespace_of_ones_own_may_be_set(api: ApiLike, tmp_path: Path) -> None:
    cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": api.entry}))))
    assert plain_kubectl("config", "set-context", "--current", "--namespace=bookinfo").returncode == 0
    assert cluster.get("namespaces")
    with pytest.raises(ClusterError):
        cluster.kubectl("delete configmap x", show=False)
    assert "DELETE /api/v1/namespaces/bookinfo/configmaps/x" in api.requests


def test_all_that_a_kubeconfig_refers_to_stays_where_it_is(
    api: ApiLike, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    entry = {"server": api.url, "certificate-authority": "ca.crt"}
    (folder / "bin").mkdir(parents=True)
    (folder / "ca.crt").write_bytes(api.authority)
    (folder / "token").write_text("from-a-file")
    plugin = folder / "bin" / "login"
    version = "client.authentication.k8s.io/v1"
    answer = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": {"token": "from-a-plugin"}})
    plugin.write_text(f"#!/bin/sh\necho '{answer}'\n")
    plugin.chmod(0o755)
    run = {"apiVersion": version, "interactiveMode": "Never"}
    users = {
        "from-a-file": {"tokenFile": "token"},
        "from-a-plugin": {"exec": {**run, "command": "./bin/login"}},
    }
    monkeypatch.chdir(tmp_path)
    for login, user in users.items():
        own = kubeconfig(folder / "config", {"a": entry}, user=user)
        api.logins.clear()
        cluster.use(Target(f"{tmp_path / 'nothing-here'}:{own}", "a"))
        assert cluster.get("namespaces")
        assert set(api.logins) == {f"Bearer {login}"}
    plugin.rename(tmp_path / "login")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    cluster.use(Target(str(kubeconfig(own, {"a": entry}, user={"exec": {**run, "command": "login"}}))))
    assert cluster.get("namespaces")


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


def test_no_credentials_are_left_behind(api: ApiLike, home: Path, tmp_path: Path) -> None:
    own = kubeconfig(tmp_path / "own", {"a": api.entry})
    code = "import os, sys\nfrom labkit import cluster\n"
    code += f"print(cluster.use(cluster.Target({str(own)!r})).file, flush=True)\n"
    run = [sys.executable, "-c"]
    ended = subprocess.run([*run, code], capture_output=True, text=True, timeout=60, check=True)
    assert Path(ended.stdout.strip()).parent == home / "targets"
    assert list((home / "targets").iterdir()) == []
    killed = subprocess.run([*run, code + "os.kill(os.getpid(), 9)"], capture_output=True, text=True, timeout=60)
    assert Path(killed.stdout.strip()).exists()
    chosen = cluster.use(Target(str(own)))
    assert list((home / "targets").iterdir()) == [chosen.file], "the next one sweeps"


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
    said = subprocess.run(start, env=environment, cwd="/", capture_output=True, text=True, timeout=60)
    assert "notebook 00 says why" in said.stderr
    assert "no cluster was chosen here" in said.stderr
    assert said.returncode != 0
    assert api.connections == 0


def test_a_context_is_not_used_where_no_kubeconfig_can_be_kept(api: ApiLike, home: Path, tmp_path: Path) -> None:
    own = kubeconfig(tmp_path / "own", {"a": api.entry})
    home.write_text("a file in the way")
    with pytest.raises(SettingError, match="cannot be written to") as caught:
        cluster.use(Target(str(own), "a"))
    assert "LABKIT_HOME" in caught.value.next_step
    with pytest.raises(NoTargetError, match="cannot be written to"):
        cluster.get("pods")
    assert api.connections == 0


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
