# SPDX-License-Identifier: Apache-2.0
"""A learner's desk: how soon a lesson's first cell has run, and what all of it takes with JupyterLab open."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

from labkit.lab.command import JUPYTER
from tools.bench.bare import ending, free_port
from tools.bench.figures import Figure
from tools.bench.world import NOTEBOOKS, World, pss, wait_for

LESSON = "02-bookinfo"


def desk(here: World, rounds: int = 5) -> list[Figure]:
    """Seconds from a kernel's start to the end of a lesson's first cell, and MiB with JupyterLab and that kernel."""
    begin = _first_cell()
    empty: list[float] = []
    begun: list[float] = []
    for _ in range(rounds):
        # In turns, so that a noisy moment hits both.
        for cell, took in (("1", empty), (begin, begun)):
            started = time.perf_counter()
            with _kernel(here, cell):
                took.append(time.perf_counter() - started)
    with _jupyterlab(here) as server, _kernel(here, begin) as kernel:
        own = [one for parent in (server, kernel) for one in (parent, *parent.children(recursive=True))]
        sizes = pss([*here.processes(), *own])
    first, floor = statistics.median(begun), statistics.median(empty)
    return [
        Figure(f"a kernel's first cell, {LESSON}", first, "s", floor, "an empty kernel", 1.5),
        Figure("everything running, JupyterLab and a kernel, PSS", sizes["all"], "MiB", None, "", 600.0),
    ]


def _first_cell() -> str:
    cells = json.loads((NOTEBOOKS / f"{LESSON}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return "\n".join(code[:2])


@contextmanager
def _kernel(here: World, cell: str) -> Iterator[psutil.Process]:
    manager: KernelManager
    client: BlockingKernelClient
    manager, client = start_new_kernel(
        env=here.env | _of_jupyter(here), cwd=str(here.folder), stderr=subprocess.DEVNULL
    )
    try:
        answer = client.execute_interactive(cell, output_hook=lambda _: None)["content"]
        if answer["status"] != "ok":
            raise SystemExit(f"{LESSON} did not begin: {answer.get('evalue')}")
        [process] = (one for one in psutil.Process().children() if manager.connection_file in one.cmdline())
        yield process
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _of_jupyter(here: World) -> dict[str, str]:
    places = {name: str(place) for name, place in JUPYTER.items()}
    return {**places, "JUPYTER_RUNTIME_DIR": str(here.folder / "runtime")}


@contextmanager
def _jupyterlab(here: World) -> Iterator[psutil.Process]:
    port, log = free_port(), here.folder / "jupyterlab.log"
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--IdentityProvider.token=", "--ServerApp.port_retries=0", f"--notebook-dir={NOTEBOOKS}"]
    with open(log, "wb") as told:
        server = subprocess.Popen(command, env=here.env | _of_jupyter(here), stdout=told, stderr=told)
    with ending([server]):
        wait_for(lambda: _answers(f"http://127.0.0.1:{port}/api"))
        yield psutil.Process(server.pid)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
