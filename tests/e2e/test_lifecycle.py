# SPDX-License-Identifier: Apache-2.0
"""A sandbox from `labkit up` to `labkit down`, as its user sees it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.conftest import SandboxUnderTest, processes_of

POD = """
apiVersion: v1
kind: Pod
metadata: {name: box, labels: {app: box}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: box
    image: docker.io/curlimages/curl:8.16.0
    command: [/bin/sh, -c, "echo ready; sleep 1000 & wait"]
"""


def status(sandbox: SandboxUnderTest) -> dict[str, object]:
    return json.loads(sandbox.labkit("status", "--name", sandbox.name, "--json").stdout)


@pytest.fixture
def sandbox(start_sandbox) -> SandboxUnderTest:
    return start_sandbox("1.30.3", name="life")


@pytest.fixture(scope="module")
def untouched(start_shared_sandbox) -> SandboxUnderTest:
    """For those who only look."""
    return start_shared_sandbox("1.30.3", name="life")


def test_up_reuses_the_sandbox_that_runs(untouched):
    before = status(untouched)
    again = untouched.labkit("up", "--name", "life")
    assert again.returncode == 0
    assert status(untouched) == before
    assert set(before) == {"name", "state", "release", "pid", "kubeconfig", "node", "server"} | {
        "ends_with",
        "healing",
    }
    assert before["healing"] == []
    assert before["ends_with"] == os.getpid()
    assert before["state"] == "running"


def test_another_release_of_the_same_name_is_refused_and_costs_nobody_his_work(untouched):
    refused = untouched.labkit("up", "--name", "life", "--release", "1.2.2")
    assert refused.returncode == 1
    assert "plays Istio 1.30.3, not 1.2.2" in refused.stderr
    assert "`labkit up --release 1.2.2`, without --name, finds or makes another beside it" in refused.stderr
    assert "--delete" not in refused.stderr
    assert "Traceback" not in refused.stderr


def test_env_sets_kubeconfig_and_nothing_else(untouched):
    printed = untouched.labkit("env", "--name", "life").stdout
    assert printed == f"export KUBECONFIG={untouched.kubeconfig}\n"


def test_files_are_private(untouched):
    looked_at = 0
    for folder, below, files in os.walk(untouched.home):
        for path in (Path(folder, name) for name in (".", *below, *files)):
            # What is written anew has another name for a moment.
            with contextlib.suppress(FileNotFoundError):
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                    looked_at += 1
                    assert mode & 0o077 == 0, f"{path} has mode {stat.filemode(mode)}"
    assert looked_at > 5


def test_everything_listens_on_the_sandbox_addresses_only(untouched):
    mine = {process.pid for process in processes_of(untouched.home)}
    listening = {c.laddr.ip for c in psutil.net_connections("inet") if c.pid in mine and c.status == psutil.CONN_LISTEN}
    block = untouched.node.rsplit(".", 2)[0] + "."
    assert listening
    assert all(address.startswith(block) for address in listening), listening


def test_the_users_own_kubeconfig_is_untouched(start_sandbox, tmp_path):
    own = tmp_path / ".kube" / "config"
    own.parent.mkdir()
    own.write_text("mine: true\n")
    sandbox = start_sandbox("1.30.3", name="polite", home=tmp_path)
    sandbox.kubectl("create", "namespace", "somewhere")
    sandbox.labkit("down", "--name", "polite")
    assert own.read_text() == "mine: true\n"


def test_kill_9_of_the_daemon_leaves_no_orphan_and_loses_no_object(sandbox, until):
    sandbox.kubectl("apply", "-f", "-", stdin=POD)
    sandbox.kubectl("wait", "--for=condition=Ready", "pod/box", "--timeout=120s")
    uid = sandbox.kubectl("get", "pod", "box", "-o", "jsonpath={.metadata.uid}").stdout
    daemon = int(str(status(sandbox)["pid"]))
    assert len(processes_of(sandbox.home)) > 2
    os.kill(daemon, signal.SIGKILL)
    until(lambda: processes_of(sandbox.home) == [], 5, "the end of every process")
    assert status(sandbox)["state"] == "crashed"
    said = sandbox.labkit("status", "--name", "life").stdout
    assert "its process ended after" in said
    assert "`labkit up --name life` brings all of it back" in said

    assert sandbox.labkit("up", "--name", "life").returncode == 0
    assert sandbox.kubectl("get", "pod", "box", "-o", "jsonpath={.metadata.uid}").stdout == uid
    sandbox.kubectl("wait", "--for=condition=Ready", "pod/box", "--timeout=120s")
    # Without a probe a pod is ready before it has said anything.
    until(lambda: "ready" in sandbox.kubectl("logs", "box").stdout, what="the pod's word")


def test_two_sandboxes_live_side_by_side(sandbox, start_sandbox):
    other = start_sandbox("1.2.2", name="other", home=sandbox.labkit_home)
    assert other.node != sandbox.node
    sandbox.kubectl("create", "namespace", "only-here")
    assert "only-here" not in other.kubectl("get", "namespaces", "-o", "name").stdout
    down = sandbox.labkit("down", "--name", "other", "--delete")
    assert down.returncode == 0
    assert "beside it sandbox 'life' (Istio 1.30.3) goes on with " in down.stdout
    assert status(sandbox)["state"] == "running"


def test_another_release_starts_beside_the_first_and_loses_nothing_of_it(start_sandbox):
    first = start_sandbox("1.30.3", name="default")
    first.kubectl("create", "configmap", "note", "--from-literal=a=1")
    beside = first.labkit("up", "--release", "1.2.2")
    assert "sandbox 'istio-1-2-2' is running: Istio 1.2.2" in beside.stdout, beside.stderr
    said = re.search(
        r"beside it sandbox 'default' \(Istio 1\.30\.3\) runs with (\d+) MB of memory; (.*)", beside.stdout
    )
    assert said, beside.stdout
    assert 20 < int(said[1]) < 2000
    assert said[2] == f"it ends with process {os.getpid()}"
    env = first.labkit("env", "--name", "istio-1-2-2").stdout
    assert "KUBECONFIG=" in env
    assert first.kubectl("get", "configmap", "note", "-o", "jsonpath={.data.a}").stdout == "1"

    told = first.labkit("status", "--all").stdout
    for line in (r"default: running \(Istio 1\.30\.3, .*, \d+ MB of memory", r"istio-1-2-2: running \(Istio 1\.2\.2, "):
        assert re.search(line, told), told
    # What the course runs on is no sandbox by name: each release finds its own again.
    for release, name in (("1.30.3", "default"), ("1.2.2", "istio-1-2-2")):
        again = first.labkit("up", "--release", release)
        assert f"sandbox {name!r} is running: Istio {release}" in again.stdout, again.stderr
    assert "goes on" not in first.labkit("down", "--all", "--delete").stdout
    assert first.labkit("status", "--all", "--json").stdout.strip() == "[]"
    other = Path(env.partition("KUBECONFIG=")[2].strip()).parent
    assert [*processes_of(first.home), *processes_of(other)] == []


def test_down_keeps_objects_and_delete_forgets_them(start_sandbox):
    sandbox = start_sandbox("1.30.3", name="kept")
    sandbox.kubectl("create", "configmap", "note", "--from-literal=a=1")
    assert "objects are kept" in sandbox.labkit("down", "--name", "kept").stdout
    assert processes_of(sandbox.home) == []
    assert status(sandbox)["state"] == "stopped"
    assert sandbox.labkit("up", "--name", "kept").returncode == 0
    assert sandbox.kubectl("get", "configmap", "note", "-o", "jsonpath={.data.a}").stdout == "1"
    assert "nothing is left" in sandbox.labkit("down", "--name", "kept", "--delete").stdout
    assert not sandbox.home.exists()


def test_a_bad_name_is_told_in_one_line(tmp_path):
    env = {**os.environ, "LABKIT_HOME": str(tmp_path)}
    done = subprocess.run(
        ["labkit", "up", "--name", "../x"], env={**env, "PATH": _path()}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert "cannot be the name of a sandbox" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def _path() -> str:
    import sys

    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"


def test_a_home_that_cannot_be_written_is_told(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    env = {**os.environ, "LABKIT_HOME": str(blocker), "PATH": _path()}
    done = subprocess.run(["labkit", "up"], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "cannot write to" in done.stderr
    assert "set LABKIT_HOME" in done.stderr


def test_an_older_log_is_no_part_of_a_new_error(start_sandbox, tmp_path, monkeypatch):
    sandbox = start_sandbox("1.30.3", name="again", home=tmp_path / "home")
    assert sandbox.labkit("down", "--name", "again").returncode == 0
    old = (sandbox.home / "daemon.log").read_text() + "an older error\n"
    (sandbox.home / "daemon.log").write_text(old)
    library = tmp_path / "lib" / "aiohttp.py"
    library.parent.mkdir()
    library.write_text("raise RuntimeError('the new error')\n")
    monkeypatch.setenv("PYTHONPATH", str(library.parent))
    failed = sandbox.labkit("up", "--name", "again")
    assert failed.returncode == 1
    assert failed.stderr.startswith("labkit: sandbox 'again' did not start: unexpected RuntimeError: the new error\n→ ")
    assert "an older error" not in failed.stderr
    assert (sandbox.home / "daemon.log.1").read_text() == old
    monkeypatch.delenv("PYTHONPATH")
    assert sandbox.labkit("up", "--name", "again").returncode == 0


def test_a_sandbox_whose_folder_was_deleted_ends_and_leaves_the_next_one_alone(sandbox, until):
    """`rm -rf` instead of `labkit down --delete`: nobody could find its processes any more."""

    def delete() -> None:
        # In one step: what is deleted piece by piece may be written again in between.
        shutil.rmtree(sandbox.labkit_home.rename(sandbox.labkit_home.with_suffix(".gone")))

    sandbox.kubectl("create", "configmap", "old")
    old = status(sandbox)["pid"]
    delete()
    # Its processes end meanwhile, or have ended, or will: nothing makes the next one wait for them.
    up = sandbox.labkit("up", "--name", "life", "--release", "1.30.3")
    assert up.returncode == 0, up.stderr
    until(lambda: old not in [one.pid for one in processes_of(sandbox.home)], 60, "the end of the one that was deleted")
    assert status(sandbox)["state"] == "running"
    assert sandbox.kubectl("get", "configmap", "old", check=False).returncode == 1
    delete()
    until(lambda: processes_of(sandbox.home) == [], 60, "the end of a sandbox without a folder")
    assert not sandbox.labkit_home.exists()
