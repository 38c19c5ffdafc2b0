# SPDX-License-Identifier: Apache-2.0
"""A JupyterLab of a test's own."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from labkit.lab.command import JUPYTER
from tests.conftest import PATIENCE, SandboxUnderTest, wait_until
from tests.ports import kept_port

CHOOSE = "from labkit import cluster\ncluster.use(cluster.Target.from_environment());\n"
"""What a notebook without `course.begin` begins with: the sandbox that the server's KUBECONFIG names."""


@contextmanager
def jupyterlab(
    sandbox: SandboxUnderTest, folder: Path, home: Path, *, prefix: str = "", seconds: float = 60
) -> Iterator[str]:
    """Its address while it runs, with the notebooks of `folder`; at its end nothing that it started is left."""
    with kept_port() as port, _started(sandbox, folder, home, port, prefix) as server:
        url = f"http://127.0.0.1:{port}{prefix}"
        try:
            wait_until(lambda: _answers(f"{url}/api"), seconds, "JupyterLab to answer")
            yield url
        finally:
            end(server)


@contextmanager
def _started(
    sandbox: SandboxUnderTest, folder: Path, home: Path, port: int, prefix: str
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**sandbox.env, "HOME": str(home), "JUPYTER_RUNTIME_DIR": str(home / "runtime")}
    # What this environment's Jupyter has of us may be of another version.
    environment |= {name: str(place) for name, place in JUPYTER.items()}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--notebook-dir={folder}"]
    command.append(f"--ServerApp.base_url={prefix}/")
    with open(home / "log", "wb") as log:
        yield subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def end(server: subprocess.Popen[bytes]) -> None:
    """End a Jupyter server, as its user does; what it started ends with it.

    A worker thread of AnyIO that is idle when the loop ends is waited for by Python, and told by nobody to end
    (jupyter_server 2.17, anyio 4): such a server would stay for ever, which is no fault of what is tested.
    """
    children = psutil.Process(server.pid).children(recursive=True)
    server.terminate()
    with suppress(subprocess.TimeoutExpired):
        server.wait(60)
    server.kill()
    server.wait()
    # A kernel ends by itself when its server has gone.
    _, alive = psutil.wait_procs(children, timeout=PATIENCE)
    assert alive == []


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return int(answer.status) == 200
    except OSError:
        return False
