# SPDX-License-Identifier: Apache-2.0
"""What a benchmark needs to stand up: a throw-away sandbox, bare Envoys and bare Python servers to compare with."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from labkit import istio
from labkit.ground import config

BIN = Path(sys.executable).parent
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
GENUINE = Path(__file__).resolve().parents[3] / "shared" / "releases"


class World:
    """A sandbox of the benchmark's own, driven as a user drives it."""

    def __init__(self, release: str, folder: Path) -> None:
        self.release = release
        self.folder = folder
        self.home = folder / "sandboxes" / "bench"
        self.env = {
            **os.environ,
            "LABKIT_HOME": str(folder),
            "HOME": str(folder),
            "KUBECONFIG": str(self.home / "kubeconfig"),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        self.files = istio.release(release)

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Run a command; its stdout. A failure ends the benchmark with the command's own words."""
        done = subprocess.run(command, env=self.env, input=stdin, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run the real kubectl."""
        return self.run(str(BIN / "kubectl"), *arguments, stdin=stdin)

    def up(self) -> None:
        """Start the sandbox."""
        self.run(str(BIN / "labkit"), "up", "--name", "bench", "--release", self.release)

    def down(self) -> float:
        """Stop it; the seconds that took."""
        began = time.perf_counter()
        self.run(str(BIN / "labkit"), "down", "--name", "bench")
        return time.perf_counter() - began

    def install(self) -> None:
        """CRDs and demo profile, without waiting for more than the CRDs."""
        for file in (*self.files.crd_files, *self.files.demo_files):
            self.kubectl("apply", "-f", str(file))

    def bookinfo(self) -> None:
        """The namespace, the application and its gateway."""
        samples = self.files.samples / "bookinfo"
        self.kubectl("create", "namespace", "bookinfo")
        self.kubectl("label", "namespace", "bookinfo", "istio-injection=enabled")
        self.kubectl("apply", "-n", "bookinfo", "-f", str(samples / "platform/kube/bookinfo.yaml"))
        self.kubectl("apply", "-n", "bookinfo", "-f", str(samples / "networking/bookinfo-gateway.yaml"))
        self.kubectl("apply", "-n", "bookinfo", "-f", str(samples / "networking/destination-rule-all.yaml"))

    def gateway(self) -> tuple[str, int]:
        """Node address and NodePort of the ingress gateway's http2 port."""
        service = json.loads(self.kubectl("get", "svc", "-n", "istio-system", "istio-ingressgateway", "-o", "json"))
        port = next(port["nodePort"] for port in service["spec"]["ports"] if port["name"] == "http2")
        node = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"][0]
        return node["status"]["addresses"][0]["address"], port

    def processes(self) -> list[psutil.Process]:
        """Everything the sandbox runs, its daemon included."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get("LABKIT_SANDBOX") == str(self.home) or str(self.home) in process.cmdline():
                    found.append(process)
        return found

    def pss(self) -> dict[str, float]:
        """Proportional set size in MiB by program, and "all"."""
        return pss(self.processes())


def homes() -> Path:
    """The folder that `$LABKIT_HOME` lies in, as learners' sandboxes do: a file may cost ten times as much in /tmp."""
    folder = config.home().parent
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def world(release: str) -> Iterator[World]:
    """A world in a folder of its own, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="labkit-bench-", dir=homes()))
    made = World(release, folder)
    try:
        yield made
    finally:
        made.run(str(BIN / "labkit"), "down", "--name", "bench", "--delete")
        shutil.rmtree(folder, ignore_errors=True)


def pss(processes: Sequence[psutil.Process]) -> dict[str, float]:
    """Proportional set size in MiB by program, and "all"."""
    sizes: dict[str, float] = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            size = process.memory_full_info().pss / 2**20
            sizes[process.name()] = sizes.get(process.name(), 0.0) + size
    return {**sizes, "all": sum(sizes.values())}


def spent(processes: Sequence[psutil.Process]) -> float:
    """Seconds of CPU that these have taken by now; what has ended counts no more."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def status_of(host: str, port: int, path: str, headers: dict[str, str] | None = None) -> int:
    """Status of one GET on a new connection; 0 if nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        response.read()
        return response.status
    except OSError:
        return 0
    finally:
        connection.close()


def wait_for(condition: Callable[[], object], seconds: float = 60.0, pause: float = 0.005) -> None:
    """Poll until `condition` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("a condition was not met in time")
        time.sleep(pause)
