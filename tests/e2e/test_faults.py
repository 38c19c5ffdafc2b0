# SPDX-License-Identifier: Apache-2.0
"""Processes die, ports are taken, disks fill up: what a user sees then."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import SandboxUnderTest, names_of, processes_of, small_file_system
from tests.shops import Shop

# Restarted pods and a Prometheus without its past are no mesh for others.
pytestmark = pytest.mark.spoils


def of_container(shop: Shop, app: str, container: str) -> list[psutil.Process]:
    """The processes of a container: an Envoy names its pod's folder, a stand-in bears its program's name."""
    uid = shop.pod(app)["metadata"]["uid"]
    if container == "istio-proxy":
        return running_for(shop, uid)
    return [psutil.Process(pid) for pid, name in names_of(shop.sandbox.home).items() if name == app]


def running_for(shop: Shop, word: str) -> list[psutil.Process]:
    """The sandbox's processes in whose command line a word stands."""
    found = []
    for process in processes_of(shop.sandbox.home):
        # A probe's command ends at any time.
        with contextlib.suppress(psutil.Error):
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found


@pytest.mark.parametrize(("app", "container"), [("details", "details"), ("details", "istio-proxy")])
def test_a_killed_container_is_restarted_and_traffic_returns(shop, until, app, container):
    before = shop.restarts(app, container)
    (process,) = of_container(shop, app, container)
    process.kill()
    until(lambda: shop.restarts(app, container) == before + 1, 20, "one restart more")
    shop.sandbox.kubectl(
        "wait",
        "--for=condition=Ready",
        f"pod/{shop.pod(app)['metadata']['name']}",
        "-n",
        "bookinfo",
        "--timeout=240s",
    )
    until(lambda: shop.status() == 200, 20, "the page")
    events = shop.sandbox.kubectl("get", "events", "-n", "bookinfo", "-o", "custom-columns=R:.reason").stdout
    assert "Started" in events


@pytest.mark.parametrize("app", ["istio-ingressgateway", "prometheus"])
def test_killed_gateways_and_add_ons_come_back(shop, until, app):
    key = "app" if app != "prometheus" or shop.sandbox.release == "1.2.2" else "app.kubernetes.io/name"
    label = f"{key}={app}"
    names = ("-n", "istio-system", "-l", label, "-o", "jsonpath={.items[0].metadata.uid}")
    uid = shop.sandbox.kubectl("get", "pods", *names).stdout
    found = running_for(shop, uid)
    assert found
    for process in found:
        # A child may have gone with its parent by now.
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    until(lambda: shop.status() == 200, 20, "the page")
    shop.sandbox.kubectl("wait", "--for=condition=Ready", "pod", "-n", "istio-system", "-l", label, "--timeout=120s")


def test_the_control_plane_may_go_and_traffic_stays(shop, until):
    name = "istio-pilot" if shop.sandbox.release == "1.2.2" else "istiod"
    scale = ("scale", "deployment", "-n", "istio-system", name)
    shop.sandbox.kubectl(*scale, "--replicas=0")
    shop.sandbox.kubectl("wait", "--for=delete", "pod", "-n", "istio-system", "-l", "istio=pilot", "--timeout=120s")
    assert [shop.status() for _ in range(20)] == [200] * 20
    shop.sandbox.kubectl(*scale, "--replicas=1")
    shop.sandbox.kubectl("rollout", "status", f"deployment/{name}", "-n", "istio-system", "--timeout=120s")


def test_kill_9_of_the_daemon_with_a_whole_mesh(shop, until):
    """Last in this file for its release: everything ends and comes back from disk."""
    sandbox = shop.sandbox
    before = sandbox.kubectl("get", "pods", "-A", "-o", "name").stdout
    os.kill(running_for(shop, "meshbox.daemon")[0].pid, signal.SIGKILL)
    until(lambda: processes_of(sandbox.home) == [], 5, "the end of every process")
    up = sandbox.labkit("up", "--name", "shop")
    assert up.returncode == 0, up.stderr
    assert sandbox.kubectl("get", "pods", "-A", "-o", "name").stdout == before
    until(lambda: shop.status() == 200, 40, "the page")


def test_a_taken_port_is_no_obstacle(start_sandbox, tmp_path):
    """Somebody sits on 6443 of every block's node address: another port serves the API."""
    sandbox = start_sandbox("1.30.3", name="first", home=tmp_path)
    node = sandbox.node
    sandbox.labkit("down", "--name", "first")
    with socket.socket() as squatter:
        # What the server has just closed is in its way no more than in the way of another server.
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind((node, 6443))
        squatter.listen()
        up = sandbox.labkit("up", "--name", "first")
        assert up.returncode == 0, up.stderr
        assert sandbox.kubectl("get", "nodes", "-o", "name").stdout.startswith("node/")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 16 MB."""
    with small_file_system(tmp_path, "size=16m") as folder:
        yield folder


def test_a_full_disk_is_told_and_nothing_is_lost(small_disk, start_sandbox):
    sandbox: SandboxUnderTest = start_sandbox("1.30.3", name="full", home=small_disk)
    sandbox.kubectl("create", "configmap", "before", "--from-literal=a=1")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as handle:
        try:
            while True:
                handle.write(b"x" * 4096)
        except OSError:
            pass
    refused = sandbox.kubectl("create", "configmap", "big", f"--from-literal=a={'y' * 100_000}", check=False)
    assert refused.returncode == 1
    assert "No space left on device" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert sandbox.kubectl("get", "configmap", "before", "-o", "jsonpath={.data.a}").stdout == "1"
    filler.unlink()
    sandbox.kubectl("create", "configmap", "after", "--from-literal=a=2")
    assert sandbox.kubectl("get", "configmap", "big", check=False).returncode == 1
