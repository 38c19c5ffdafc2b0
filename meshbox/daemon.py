# SPDX-License-Identifier: Apache-2.0
"""The one background process of a sandbox: API server, controllers, node and mesh in one event loop.

It owns its folder, by a lock in it, and an address block 127.X.0.0/16 (`meshbox.blocks`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from labkit.ground import config, peers
from labkit.ground.errors import LabError, SandboxError
from meshbox import failures, kept
from meshbox.asker import Asker
from meshbox.blocks import claim
from meshbox.contracts import Objects
from meshbox.launch import Report
from meshbox.lifeline import watched
from meshbox.program import program
from meshbox.settings import SandboxSettings
from meshbox.tidy import Tidy
from meshbox.upkeep import Home, Upkeep

__all__ = ["Sandbox", "main"]

log = logging.getLogger("meshbox")

_DESCRIPTORS = 65536
"""Files that the daemon may have open, if the machine lets it: each connection through a Service takes two."""


class Sandbox:
    """The parts of one sandbox, started in order and stopped in reverse.

    Args:
        settings: What all parts share.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        # aiohttp reads the machine's certificate authorities when it is imported, which takes a quarter of that; this
        # process calls nobody who has a certificate of theirs.
        authorities = os.environ.get("SSL_CERT_FILE")
        os.environ["SSL_CERT_FILE"] = os.devnull
        from meshbox.api.metrics_api import Metrics
        from meshbox.api.objects import ObjectStore
        from meshbox.api.server import ApiServer
        from meshbox.controllers import Controllers
        from meshbox.mesh import Mesh
        from meshbox.node import Node

        os.environ.pop("SSL_CERT_FILE")
        if authorities is not None:
            os.environ["SSL_CERT_FILE"] = authorities
        self.settings = settings
        self.objects = ObjectStore(settings)
        _check_release(self.objects, settings)
        self.mesh = Mesh(self.objects, settings)
        self.objects.add_admission(self.mesh.admission)
        self.node = Node(self.objects, settings)
        metrics = Metrics(self.objects, self.node, settings.node_name)
        self.controllers = Controllers(self.objects, settings, metrics=metrics)
        self.api = ApiServer(self.objects, settings, self.node, metrics)
        store = self.objects.store
        tell = self.telling("memory of what is gone was not given back", "tidy")
        self.tidy = Tidy(store.count, lambda: store.version, forget=store.forget_most, tell=tell)
        self._started: list[Node | Mesh | Controllers | ApiServer | Tidy] = []

    def telling(self, what: str, component: str) -> failures.Tell:
        """Tells on the Node that `what` has happened to the sandbox as a whole."""
        return lambda error: failures.report_here(self.objects, error, what, component)

    async def start(self) -> None:
        """Start everything; returns when the API answers."""
        failures.on_loop(self.objects)
        for part in (self.node, self.mesh, self.controllers, self.api, self.tidy):
            await part.start()
            self._started.append(part)

    async def stop(self) -> None:
        """Stop everything that was started, the API first."""
        while self._started:
            part = self._started.pop()
            try:
                await part.stop()
            except Exception as error:
                # One part that fails to stop must not keep the others' processes alive.
                failures.noted(error, f"{type(part).__name__} did not stop cleanly")
        self.objects.close()


def _write_state(
    settings: SandboxSettings, state: str, port: int = 0, note: str = "", asker: Asker | None = None
) -> None:
    content = {
        "name": settings.name,
        "release": settings.release,
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
        "kubeconfig": str(settings.home / "kubeconfig"),
        "node": settings.plan.node,
        "port": port,
        "loadbalancer": settings.loadbalancer,
        "state": state,
        "note": note,
        "ends_with": asker.pid if asker is not None else None,
    }
    kept.put(settings.home / "state.json", json.dumps(content, indent=2))


def _upkeep(settings: SandboxSettings, tell: failures.Tell) -> Upkeep:
    home = settings.home
    names = ["token", "identity", "number", "release", "state.json", "kubeconfig", "ca.crt", "ca.key"]
    names += [f"server-{settings.plan.node}.pem", "mesh/ca-key.pem", "mesh/ca-cert.pem"]
    config = home / "kubeconfig"
    kept_there = json.loads(config.read_bytes())
    vital = [kept_there["clusters"][0]["cluster"][key] for key in ("server", "certificate-authority-data")]
    vital.append(settings.token)

    def usable(content: bytes) -> bool:
        # `kubectl config set-context --namespace` writes it anew, as YAML; what leads here must be in it still.
        try:
            return all(word in content.decode() for word in vital)
        except UnicodeDecodeError:
            return False

    return Upkeep([home / name for name in names if (home / name).exists()], {config: usable}, tell)


def _check_release(objects: Objects, settings: SandboxSettings) -> None:
    """Raise SandboxError where the objects are of the other release: they would be taken for what they are not."""
    node = objects.find("nodes", settings.node_name) or {}
    version = ((node.get("status") or {}).get("nodeInfo") or {}).get("kubeletVersion", "")
    if version and version.startswith("v1.14.") != settings.legacy:
        other = next(one for one in config.RELEASES if one.startswith("1.2.") != settings.legacy)
        # Who said otherwise had lost it: from now on it is known again.
        kept.put(settings.home / "release", other)
        raise SandboxError(
            f"the objects of sandbox {settings.name!r} are of Istio {other}, not {settings.release}",
            next_step=f"{program()} up --name {settings.name} --release {other}",
        )


async def _serve(settings: SandboxSettings, running: Callable[[], None], asker: Asker | None) -> None:
    began = time.monotonic()
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    gc.disable()
    home = Home(settings.home)
    sandbox = Sandbox(settings)
    # Almost all that is kept here are trees of JSON, which need no collector: with Python's own thresholds looking
    # through them was a tenth of this process's work while Istio is installed. What is imported stays for good.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
    upkeep = None
    try:
        with watched(asker, ended.set) if asker is not None else contextlib.nullcontext():
            await sandbox.start()
            _write_state(settings, "running", sandbox.api.port, sandbox.objects.moved, asker)
            tell = sandbox.telling("a small file of the sandbox was not looked after", "upkeep")
            upkeep = failures.minded(_upkeep(settings, tell).run(home, ended.set), tell)
            running()
            took = time.monotonic() - began
            log.info("Istio %s sandbox on %s, up in %.2f s", settings.release, settings.plan.node, took)
            await ended.wait()
        why = f": process {asker.pid}, which it was to end with, has ended" if asker and not asker.alive else ""
        log.info("stopping%s", f": its folder {settings.home} is gone" if home.gone else why)
    finally:
        if upkeep is not None:
            upkeep.cancel()
        await sandbox.stop()
        # In the place of its folder there may be another's by now.
        if not home.gone:
            with contextlib.suppress(LabError):
                # A disk that is full must not hide why the sandbox ends.
                _write_state(settings, "stopped")
        home.close()


def main(argv: list[str] | None = None) -> int:
    """Run a sandbox until SIGTERM; exit code 1 and one line if it cannot start. Started by `meshbox.control`."""
    parser = argparse.ArgumentParser(prog="meshbox-daemon", description=main.__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--release", required=True)
    parser.add_argument("--loadbalancer", action="store_true")
    parser.add_argument("--real-clocks", action="store_true")
    parser.add_argument("--with", type=Asker.parse, dest="asker", help="PID:START of the process to end with")
    parser.add_argument("--report", type=int, help="a pipe for the one line that says that it runs, or why not")
    parser.add_argument("--recover", action="store_true")
    args = parser.parse_args(argv)
    report = Report(args.report)
    failures.belongs_to(args.home, args.name)
    # A word that names no level asks for the usual one.
    level = os.environ.get("LABKIT_LOG", "INFO").upper()
    logging.basicConfig(
        level=level if level in logging.getLevelNamesMapping() else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    os.umask(0o077)
    # What whoever started us had blocked would stay blocked here and in every pod.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = _DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, _DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(few, enough), most))
    try:
        with kept.alone(args.home), contextlib.ExitStack() as stack:
            plan, held = claim(args.home)
            stack.enter_context(held)
            if not peers.able(plan.node):
                raise SandboxError(
                    "this system does not tell whose a connection is, so the sandbox could not keep other users out",
                    next_step="run it where netlink's socket diagnosis or /proc/net/tcp is there (not in gVisor)",
                )
            settings = SandboxSettings(
                name=args.name,
                home=args.home,
                release=args.release,
                plan=plan,
                token=kept.token(args.home),
                loadbalancer=args.loadbalancer,
                real_clocks=args.real_clocks,
                recover=args.recover,
            )
            serving = _serve(settings, report.running, args.asker)
            if sys.platform == "linux":
                import uvloop

                uvloop.run(serving)
            else:
                asyncio.run(serving)
    except (LabError, OSError) as error:
        # An OSError is a full disk, or a port taken between the claim and the bind.
        report.failed(error)
        log.debug("where it was", exc_info=True)
        log.error("the sandbox cannot go on: %s", error)
        return 1
    except Exception as error:
        report.failed(error)
        log.exception("the sandbox cannot go on")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
