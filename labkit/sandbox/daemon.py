"""The one background process of a sandbox: API server, controllers, node and mesh in one event loop.

It owns an address block 127.X.0.0/16. Who owns a block is told by an abstract Unix socket bound to its name: the kernel
frees it with the process, however that ends, and it lives in the same network namespace as the addresses.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import hashlib
import json
import logging
import os
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from labkit import peers
from labkit.errors import LabError, SandboxError
from labkit.sandbox.addresses import AddressPlan
from labkit.sandbox.launch import Report
from labkit.sandbox.settings import SandboxSettings

__all__ = ["Sandbox", "claim", "main"]

log = logging.getLogger("labkit.sandbox")

_NUMBERS = range(10, 250)
_DESCRIPTORS = 65536
"""Files that the daemon may have open, if the machine lets it: each connection through a Service takes two."""


def _lock(number: int) -> socket.socket | None:
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0labkit-127.{number}")
    except OSError:
        lock.close()
        return None
    return lock


def claim(home: Path) -> tuple[AddressPlan, socket.socket]:
    """Take an address block for the sandbox in `home`: the one it had before, else the first free one.

    Returns:
        The plan, and the lock that holds it for as long as it stays open.

    Raises:
        SandboxError: the block that its stored objects live in is taken, or no block is free.
    """
    file = home / "number"
    if file.exists():
        number = int(file.read_text())
        if lock := _lock(number):
            return AddressPlan.of(number), lock
        raise SandboxError(
            f"the addresses 127.{number}.0.0/16 of this sandbox's objects are used by another sandbox",
            next_step="stop that one (`labkit status --all`), or start anew with `labkit down --delete`",
        )
    # Sandboxes of different homes begin their search at different places, so that a stopped one seldom loses its block.
    start = int.from_bytes(hashlib.sha256(str(home).encode()).digest()[:4], "big")
    for step in range(len(_NUMBERS)):
        number = _NUMBERS[(start + step) % len(_NUMBERS)]
        lock = _lock(number)
        if lock is None:
            continue
        plan = AddressPlan.of(number)
        with socket.socket() as probe:
            try:
                probe.bind((plan.node, 6443))
            except OSError:
                lock.close()
                continue
        file.write_text(str(number))
        return plan, lock
    raise SandboxError("no free block of loopback addresses (127.10.0.0/16 to 127.249.0.0/16) is left on this machine")


def _token(home: Path) -> str:
    file = home / "token"
    with contextlib.suppress(FileNotFoundError):
        return file.read_text().strip()
    token = secrets.token_urlsafe(32)
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
        handle.write(token)
    return token


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
        from labkit.sandbox.api.objects import ObjectStore
        from labkit.sandbox.api.server import ApiServer
        from labkit.sandbox.controllers import Controllers
        from labkit.sandbox.mesh import Mesh
        from labkit.sandbox.node import Node

        os.environ.pop("SSL_CERT_FILE")
        if authorities is not None:
            os.environ["SSL_CERT_FILE"] = authorities
        self.settings = settings
        self.objects = ObjectStore(settings)
        self.mesh = Mesh(self.objects, settings)
        self.objects.add_admission(self.mesh.admission)
        self.node = Node(self.objects, settings)
        self.controllers = Controllers(self.objects, settings)
        self.api = ApiServer(self.objects, settings, self.node)
        self._started: list[Node | Mesh | Controllers | ApiServer] = []

    async def start(self) -> None:
        """Start everything; returns when the API answers."""
        for part in (self.node, self.mesh, self.controllers, self.api):
            await part.start()
            self._started.append(part)

    async def stop(self) -> None:
        """Stop everything that was started, the API first."""
        while self._started:
            part = self._started.pop()
            try:
                await part.stop()
            except Exception:
                # One part that fails to stop must not keep the others' processes alive.
                log.exception("%s did not stop cleanly", type(part).__name__)
        self.objects.close()


def _write_state(settings: SandboxSettings, state: str, port: int) -> None:
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
    }
    temporary = settings.home / "state.json.new"
    temporary.write_text(json.dumps(content, indent=2))
    temporary.chmod(0o600)
    temporary.replace(settings.home / "state.json")


async def _serve(settings: SandboxSettings, running: Callable[[], None]) -> None:
    began = time.monotonic()
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    gc.disable()
    sandbox = Sandbox(settings)
    # Almost all that is kept here are trees of JSON, which need no collector: with Python's own thresholds looking
    # through them was a tenth of this process's work while Istio is installed. What is imported stays for good.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
    try:
        await sandbox.start()
        _write_state(settings, "running", sandbox.api.port)
        running()
        log.info("Istio %s sandbox on %s, up in %.2f s", settings.release, settings.plan.node, time.monotonic() - began)
        await ended.wait()
        log.info("stopping")
    finally:
        await sandbox.stop()
        _write_state(settings, "stopped", 0)


def main(argv: list[str] | None = None) -> int:
    """Run a sandbox until SIGTERM; exit code 1 and one line if it cannot start. Started by `labkit.sandbox.control`."""
    parser = argparse.ArgumentParser(prog="labkit-sandbox", description=main.__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--release", required=True)
    parser.add_argument("--loadbalancer", action="store_true")
    parser.add_argument("--real-clocks", action="store_true")
    parser.add_argument("--report", type=int, help="a pipe for the one line that says that it runs, or why not")
    args = parser.parse_args(argv)
    report = Report(args.report)
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
        plan, lock = claim(args.home)
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
            token=_token(args.home),
            loadbalancer=args.loadbalancer,
            real_clocks=args.real_clocks,
        )
        with lock:
            serving = _serve(settings, report.running)
            if sys.platform == "linux":
                import uvloop

                uvloop.run(serving)
            else:
                asyncio.run(serving)
    except (LabError, OSError) as error:
        # An OSError is a full disk, or a port taken between the claim and the bind.
        log.debug("could not start", exc_info=True)
        print(f"the sandbox cannot go on: {error}", file=sys.stderr, flush=True)
        report.failed(error)
        return 1
    except Exception as error:
        log.exception("the sandbox cannot go on")
        report.failed(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
