# SPDX-License-Identifier: Apache-2.0
"""Istio on a cluster that others use too: theirs is left alone, ours goes, and what they did beside ours stays."""

from __future__ import annotations

import http.server
import os
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from labkit import bookinfo, cluster, course, istio
from labkit.ground.errors import ClusterError
from tests.conftest import REPOSITORY, SandboxUnderTest
from tests.course.shared_cluster import CONTEXT, apply, config_map, names, namespace, somebodys, state

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("version", ["1.2.2", "1.30.3"])
def test_exactly_what_is_theirs_remains(
    version: str, start_sandbox: Callable[..., SandboxUnderTest], tmp_path: Path
) -> None:
    sandbox = start_sandbox(version, name=f"shared-{version.replace('.', '-')}")
    release = istio.release(version)
    # Namespace bookinfo was theirs before; the course may work in it, and leaves it.
    apply(
        sandbox, namespace("team"), config_map("team", "settings"), namespace("bookinfo"), config_map("bookinfo", "x")
    )
    with somebodys(sandbox, tmp_path):
        lesson = course.begin("01-install-istio", version, CONTEXT)
        empty = state(sandbox)
        istio.install(release, timeout=300)
        bookinfo.deploy(release, timeout=300)
        for sample in ("bookinfo-gateway", "destination-rule-all"):
            cluster.apply(release.samples / f"bookinfo/networking/{sample}.yaml", namespace="bookinfo")

        port = {"number": 80, "name": "http", "protocol": "HTTP"}
        rule = {
            "apiVersion": release.facts.api_version,
            "kind": "VirtualService",
            "spec": {"hosts": ["shop"], "http": [{"route": [{"destination": {"host": "shop"}}]}]},
        }
        gateway = {
            "apiVersion": release.facts.api_version,
            "kind": "Gateway",
            "spec": {"selector": {"app": "shop"}, "servers": [{"port": port, "hosts": ["*"]}]},
        }
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "theirs", "namespace": "istio-system"}}
        apply(
            sandbox,
            {**rule, "metadata": {"name": "shop", "namespace": "team"}},
            {**rule, "metadata": {"name": "httpbin", "namespace": "default"}},
            {**gateway, "metadata": {"name": "httpbin-gateway", "namespace": "default"}},
            {**gateway, "metadata": {"name": "shop", "namespace": "bookinfo"}},
            secret,
        )
        plan = lesson.plan()
        with_istio = state(sandbox)
        with pytest.raises(ClusterError, match="nothing was deleted"):
            plan.confirm("another")
        with pytest.raises(ClusterError, match="Secret istio-system/theirs"):
            cluster.kubectl("delete namespace istio-system", timeout=180)
        assert state(sandbox).keys() >= with_istio.keys()

        kept = {str(item.thing) for item in plan.kept}
        group = "networking.istio.io"
        assert kept == {
            "Namespace istio-system",
            f"CustomResourceDefinition virtualservices.{group}",
            f"CustomResourceDefinition gateways.{group}",
        }
        plan.confirm(CONTEXT)
        for part in ("rules", "applications", "istio"):
            plan.remove(part, timeout=400)

        after = state(sandbox)
        made_by_kubernetes = ("ServiceAccount istio-system/default", "ConfigMap istio-system/kube-root", "-token-")
        theirs = {what for what in names(after) - names(empty) if not any(part in what for part in made_by_kubernetes)}
        assert theirs == {
            "VirtualService team/shop",
            "VirtualService default/httpbin",
            "Gateway default/httpbin-gateway",
            "Gateway bookinfo/shop",
            "Secret istio-system/theirs",
            "Namespace /istio-system",
            f"CustomResourceDefinition /virtualservices.{group}",
            f"CustomResourceDefinition /gateways.{group}",
        }
        assert names(empty) - names(after) == set()
        unchanged = {uid: what for uid, what in after.items() if what[0] != "Namespace /bookinfo"}
        assert {uid: what for uid, what in unchanged.items() if uid in empty} == {
            uid: what for uid, what in empty.items() if what[0] != "Namespace /bookinfo"
        }
        for uid, (what, resource_version) in after.items():
            if what.partition(" ")[0] in ("VirtualService", "Gateway") or what == "Secret istio-system/theirs":
                assert with_istio[uid] == (what, resource_version)
        (theirs_before,) = cluster.get("namespace", "bookinfo")
        assert "istio-injection" not in theirs_before["metadata"].get("labels", {})

        assert lesson.plan().items == ()
        assert not lesson.left()
        again = lesson.plan()
        again.confirm(CONTEXT)
        again.remove()
        assert state(sandbox) == after
        # Its own kinds are left of it: over these it may install again.
        istio.check_unclaimed(release)


@contextmanager
def recording(sandbox: SandboxUnderTest, tmp_path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A kubeconfig that leads to `sandbox` past somebody who writes down every request."""
    config = yaml.safe_load(sandbox.kubeconfig.read_text())
    server, token = config["clusters"][0]["cluster"]["server"], config["users"][0]["user"]["token"]
    asked: list[str] = []
    trusting = ssl._create_unverified_context()

    class Between(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            asked.append(f"{self.command} {self.path.partition('?')[0]}")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
            sent = {name: self.headers[name] for name in ("Accept", "Content-Type") if name in self.headers}
            sent["Authorization"] = f"Bearer {token}"
            request = urllib.request.Request(server + self.path, body, sent, method=self.command)
            try:
                with urllib.request.urlopen(request, context=trusting, timeout=120) as answer:
                    status, kind, said = answer.status, answer.headers.get("Content-Type", ""), answer.read()
            except urllib.error.HTTPError as error:
                status, kind, said = error.code, error.headers.get("Content-Type", ""), error.read()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Between, f"do_{verb}", Between._pass_on)
    between = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Between)
    thread = threading.Thread(target=between.serve_forever, args=(0.05,))
    thread.start()
    config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{between.server_port}"}
    own = tmp_path / "recorded-kubeconfig"
    own.write_text(yaml.safe_dump(config).replace(f"labkit-{sandbox.name}", CONTEXT))
    own.chmod(0o600)
    try:
        yield own, asked
    finally:
        between.shutdown()
        between.server_close()
        thread.join()


def labkit(kubeconfig: Path, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"KUBECONFIG": str(kubeconfig), "LABKIT_HOME": str(tmp_path / "labkit"), "HOME": str(tmp_path)}
    env |= {"IPYTHONDIR": str(tmp_path / "ipython"), "JUPYTER_CONFIG_DIR": str(tmp_path / "jupyter")}
    command = [sys.executable, "-m", "labkit", *words]
    return subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=500)


def test_an_istio_of_somebody_elses_is_left_alone(
    start_sandbox: Callable[..., SandboxUnderTest], tmp_path: Path
) -> None:
    sandbox = start_sandbox("1.30.3", name="their-istio")
    release = istio.release("1.30.3")
    with recording(sandbox, tmp_path) as (own, asked):
        told = labkit(own, tmp_path, "doctor", "--target", CONTEXT, "--release", "1.30.3")
        assert told.returncode == 0, told.stdout + told.stderr
        assert "Istio: none" in told.stdout
        assert "namespaces istio-system, bookinfo, warm-up\n  15 CustomResourceDefinitions\n" in told.stdout
        assert "Nothing of the course is on this cluster." in told.stdout
        assert "✔ the course can be played here" in told.stdout

        for file in release.crd_files:
            sandbox.kubectl("apply", "-f", str(file))
        apply(sandbox, namespace("istio-system"))
        before = state(sandbox)
        asked.clear()
        told = labkit(own, tmp_path, "doctor", "--target", CONTEXT, "--release", "1.30.3")
        assert told.returncode == 1, told.stdout + told.stderr
        assert "Istio: somebody else's" in told.stdout
        assert "Namespace istio-system (made 2" in told.stdout
        assert "✘ the course would refuse: not so: The cluster has no Istio yet" in told.stdout
        written = {one for one in asked if not one.startswith("GET ")}
        assert written == {"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews"}
        assert state(sandbox) == before
        assert labkit(own, tmp_path, "doctor", "--target", "nope").returncode == 1

    with somebodys(sandbox, tmp_path):
        for refused in (
            lambda: istio.check_unclaimed(release),
            lambda: istio.install(release),
            lambda: course.catch_up("bookinfo", "1.30.3"),
            lambda: cluster.apply(release.crd_files[0]),
        ):
            with pytest.raises(ClusterError, match=r"The course did not make:\n  ") as seen:
                refused()
            assert "gateways.networking.istio.io" in str(seen.value) or "Namespace istio-system" in str(seen.value)
            assert 'TARGET = "sandbox"' in str(seen.value)
        lesson = course.begin("00-kubernetes", "1.30.3", CONTEXT)
        assert not lesson.progress.snapshot.exists()
        preflight = {check.name: check for check in course.preflight(release)}
        assert not preflight["The cluster has no Istio yet"].passed
        assert preflight["The cluster has no Istio yet"].needed
        with pytest.raises(ClusterError, match="no snapshot of this cluster was kept"):
            istio.uninstall(release, confirm=CONTEXT)
        assert state(sandbox) == before

    played = labkit(
        tmp_path / "own-kubeconfig", tmp_path, "run", "--release", "1.30.3", "--target", CONTEXT, "--confirm", CONTEXT,
        "--out", str(tmp_path / "out"), "notebooks/01-install-istio.ipynb", "notebooks/99-clean-up.ipynb",
    )  # fmt: skip
    assert played.returncode == 1
    assert "01-install-istio   cell apply-crds: this cluster has an Istio of somebody else's" in played.stdout
    assert "99-clean-up        cell see-what-came: no snapshot of this cluster was kept" in played.stdout
    assert state(sandbox) == before
