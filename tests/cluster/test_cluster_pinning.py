# SPDX-License-Identifier: Apache-2.0
"""The chosen cluster is pinned, whatever becomes of the kubeconfig it was named in, and whoever comes to its place."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from labkit import cluster
from labkit.cluster import Target, client, identity
from labkit.ground.errors import ClusterError, NoTargetError, SettingError
from labkit.user import NO_CLUSTER
from meshbox import reach
from tests.cluster.api_like import ApiLike, kubeconfig
from tests.cluster.conftest import plain_kubectl

pytestmark = pytest.mark.usefixtures("as_before", "home")

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default}\n"


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
    assert os.environ["KUBECONFIG"] == f"{chosen.file}:{home / 'targets' / NO_CLUSTER.name}"
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
    count = api.connections, len(api.requests)
    with pytest.raises(NoTargetError, match="kube-system is uid-b, not uid-a"):
        cluster.get("namespaces")
    assert "kube-system is uid-b, not uid-a" in plain_kubectl("delete", "configmap", "x").stderr
    assert (api.connections, len(api.requests)) == count, "from then on it is left alone, by cells as well"
    assert cluster.use(Target(str(own), "a")).uid == "uid-b"


def test_one_that_is_lost_does_not_take_along_the_one_chosen_meanwhile(
    api: ApiLike, other: ApiLike, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A widget's thread asks for the one before, while a lesson begins on another."""
    own = kubeconfig(tmp_path / "own", {"a": api.entry, "b": other.entry})
    cluster.use(Target(str(own), "a"))
    difference = identity.difference

    def slow(chosen: cluster.Chosen, *, thorough: bool) -> str:
        monkeypatch.setattr(identity, "difference", difference)
        cluster.use(Target(str(own), "b"))
        return difference(chosen, thorough=thorough)

    monkeypatch.setattr(identity, "difference", slow)
    api.uid = "uid-b"
    with pytest.raises(NoTargetError, match="kube-system is uid-b, not uid-a"):
        cluster.get("namespaces")
    assert cluster.current().uid == "uid-of-another"
    assert cluster.get("namespaces")


def test_with_a_token_reading_notices_as_well(api: ApiLike, tmp_path: Path) -> None:
    cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": api.entry}))))
    api.uid = "uid-b"
    with pytest.raises(NoTargetError, match="kube-system is uid-b, not uid-a"):
        cluster.get("namespaces")


@pytest.mark.parametrize(
    ("server", "no_proxy", "direct"),
    [
        ("https://192.0.2.1:6443", "", False),
        ("https://192.0.2.1:6443", "192.0.2.1", True),
        ("https://192.0.2.1:6443", "192.0.2.0/24", True),
        ("https://127.3.0.1:6443", "", True),
    ],
)
def test_where_kubectl_goes_through_a_proxy_nothing_is_asked_past_it(
    server: str, no_proxy: str, direct: bool, api: ApiLike, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening() as (proxy, asked):
        for name in ("https_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy}")
        monkeypatch.setenv("no_proxy", no_proxy)
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        if direct:
            # Nobody answers there, if it can be reached at all. The proxy is waited for.
            monkeypatch.setattr("labkit.cluster.client.CONNECT", 0.2)
        file = kubeconfig(tmp_path / "own", {"a": {**api.entry, "server": server}})
        with pytest.raises(ClusterError, match=r"Unable to connect|was refused"):
            identity.uid_of(file, "a")
        assert set(asked) == (set() if direct else {b"CONNECT 192.0.2.1:6443 HTTP/1."})


@contextlib.contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """A proxy that hangs up: its port, and the beginning of what each client said."""
    said: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        said.append(client.recv(65536).partition(b"\r")[0][:-1])

        serving = threading.Thread(target=serve)
        serving.start()
        yield server.getsockname()[1], said
        server.shutdown(socket.SHUT_RDWR)
        serving.join()


def test_a_cluster_that_is_gone_is_not_taken_for_another(api: ApiLike, tmp_path: Path) -> None:
    chosen = cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": api.entry}))))
    api.server.shutdown()
    api.server.server_close()
    for words in ("get namespaces", "delete configmap x"):
        with pytest.raises(ClusterError, match="refused"):
            cluster.kubectl(words, show=False)
    assert cluster.current() == chosen


@pytest.mark.parametrize("name", ["0-first", "z-last"])
def test_a_cluster_made_in_a_cell_is_not_taken_for_the_chosen_one(
    name: str, api: ApiLike, other: ApiLike, tmp_path: Path
) -> None:
    """What makes a cluster adds it to the first file of $KUBECONFIG, and chooses it."""
    cluster.use(Target(str(kubeconfig(tmp_path / "own", {"m": api.entry}))))
    for words in (
        ["set-cluster", name, f"--server={other.url}"],
        ["set-context", name, f"--cluster={name}", "--user=me"],
        ["use-context", name],
    ):
        assert plain_kubectl("config", *words).returncode == 0
    for helper in (lambda: cluster.get("namespaces"), lambda: cluster.shell("kubectl delete namespaces --all")):
        with pytest.raises(NoTargetError, match=f"its context is {name}, not m|no cluster is in use any more"):
            helper()
    assert other.connections == 0


def test_a_cluster_made_in_a_terminal_is_not_taken_for_the_sandbox(home: Path, api: ApiLike, other: ApiLike) -> None:
    own = home / "sandboxes" / "mine" / "kubeconfig"
    clusters = {"labkit-mine": api.entry, "kind-kind": other.entry}
    for current in clusters:
        chosen = cluster.use(Target(str(kubeconfig(own, clusters, current=current))))
        assert cluster.is_sandbox(chosen)
        assert (chosen.context, chosen.server, chosen.uid) == ("labkit-mine", api.url, "uid-a")
        assert "uid-a" in plain_kubectl("get", "namespaces", "-o", "yaml").stdout
        assert f"https://127.0.0.1:{reach.access(own).port}" == api.url
    kubeconfig(own, {"kind-kind": other.entry})
    with pytest.raises(SettingError, match="cannot locate context labkit-mine"):
        cluster.use(Target(str(own)))
    with pytest.raises(ValueError, match="is not a kubeconfig of this sandbox"):
        reach.access(own)
    assert other.connections == 0


@pytest.mark.parametrize(
    "flags", ["--kubeconfig {own}", "--kubeconfig={own}", "--context b", "--cluster=b", "-s {url}", "--server {url}"]
)
def test_a_flag_does_not_lead_past_the_chosen_cluster(flags: str, api: ApiLike, other: ApiLike, tmp_path: Path) -> None:
    own = kubeconfig(tmp_path / "own", {"a": api.entry, "b": other.entry})
    cluster.use(Target(str(own), "a"))
    flags = flags.format(own=own, url=other.url)
    for words in (f"delete namespaces --all {flags}", f"{flags} get namespaces"):
        with pytest.raises(ClusterError, match="leads to another cluster than the one in use"):
            cluster.kubectl(words, show=False)
    assert "kube-system" in cluster.kubectl("--context a get namespaces", show=False)
    assert other.connections == 0


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


def test_no_credentials_are_left_behind(
    api: ApiLike, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = kubeconfig(tmp_path / "own", {"a": api.entry})
    code = "import os, sys\nfrom labkit import cluster\n"
    code += f"print(cluster.use(cluster.Target({str(own)!r})).file, flush=True)\n"
    run = [sys.executable, "-c"]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    ended = subprocess.run([*run, code], capture_output=True, text=True, timeout=300, check=True)
    assert list(temporary.iterdir()) == []
    assert Path(ended.stdout.strip()).parent == home / "targets"
    assert [file.name for file in (home / "targets").iterdir()] == [NO_CLUSTER.name]
    killed = subprocess.run([*run, code + "os.kill(os.getpid(), 9)"], capture_output=True, text=True, timeout=300)
    assert Path(killed.stdout.strip()).exists()
    (left,) = temporary.iterdir()
    assert left.stat().st_mode & 0o077 == 0
    subprocess.run([*run, code], capture_output=True, timeout=60, check=True)
    assert list(temporary.iterdir()) == [], "and here"
    chosen = cluster.use(Target(str(own)))
    assert list((home / "targets").glob("*.json")) == [chosen.file], "the next one sweeps"


def test_a_token_that_was_renewed_in_its_file_is_taken(api: ApiLike, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("the-first")
    cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": api.entry}, user={"tokenFile": str(token)}))))
    token.write_text("the-second")
    api.accepted = "Bearer the-second"
    api.logins.clear()
    assert cluster.get("namespaces")
    assert api.logins[:2] == ["Bearer the-first", "Bearer the-second"]
    assert set(api.logins[2:]) == {"Bearer the-second"}


def test_a_login_that_fails_says_what_its_plugin_said(
    api: ApiLike, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "login"
    plugin.write_text("#!/bin/sh\necho your session has ended >&2\nexit 1\n")
    plugin.chmod(0o755)
    run = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": str(plugin)}
    api.accepted = "Bearer nobody-has-it"
    with pytest.raises(ClusterError, match="your session has ended") as caught:
        cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": api.entry}, user={"exec": run}))))
    assert "credentials were refused" in caught.value.next_step
    assert client._kept is None, "what cannot be chosen leaves no way to it"
    assert capfd.readouterr() == ("", "")


def test_a_login_that_hangs_is_ended_with_all_that_it_started(
    api: ApiLike, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Callable[..., Any]
) -> None:
    plugin, waits = tmp_path / "login", tmp_path / "waits"
    waits.symlink_to(shutil.which("sleep") or "")
    plugin.write_text(f"#!/bin/sh\n{waits} 600 &\n{waits} 600\n")
    plugin.chmod(0o755)
    monkeypatch.setattr("labkit.cluster.login.PATIENCE", 1.0)
    run = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": str(plugin)}
    run |= {"args": ["get-token", "--client-secret", "hidden"]}
    with pytest.raises(ClusterError) as caught:
        cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": api.entry}, user={"exec": run}))))
    shown = f"`{plugin} get-token …`, by which {tmp_path / 'own'} logs in, did not end within 1 s"
    assert caught.value.message == shown
    assert "Run it in a terminal" in caught.value.next_step
    assert api.requests == []

    def left() -> list[str]:
        there = [" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])]
        return [words for words in there if str(waits) in words or str(plugin) in words]

    until(lambda: not left(), 10, "the login to end")


def test_who_acts_for_somebody_else_says_so(api: ApiLike, tmp_path: Path) -> None:
    user = {"token": "t", "as": "jane", "as-groups": ["a", "b"], "as-user-extra": {"why": ["c"]}}
    cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": api.entry}, user=user))))
    said = api.headers[-1]
    assert (said["Impersonate-User"], said["Impersonate-Extra-why"]) == ("jane", "c")
    assert said.get_all("Impersonate-Group") == ["a", "b"]


def test_a_certificate_of_another_is_told(api: ApiLike, other: ApiLike, tmp_path: Path) -> None:
    entry = {**api.entry, "certificate-authority-data": other.entry["certificate-authority-data"]}
    with pytest.raises(ClusterError, match=r"x509: .*certificate verify failed") as caught:
        cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": entry}))))
    assert "not the one this kubeconfig trusts" in caught.value.next_step


def test_a_name_that_nobody_knows_is_told(api: ApiLike, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="no such host") as caught:
        cluster.use(Target(str(kubeconfig(tmp_path / "own", {"a": {**api.entry, "server": "https://no.invalid"}}))))
    assert "cannot be reached from here" in caught.value.next_step
