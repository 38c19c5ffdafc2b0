# SPDX-License-Identifier: Apache-2.0
"""The pod's process: writes the adapted configuration, runs the real Prometheus, and is its one door.

Prometheus asks nobody who they are, and a web page can send requests to any loopback address. So it listens at a port
of its own behind a password that only this process knows; at 9090 stands a door that lets our own addresses in, and
through which Prometheus itself goes out: to what there is to scrape, and to sidecars, whose counts are kept there.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from labkit.ground import config, files, reading
from labkit.ground.guard import new_secret
from labkit.ground.web import App, Request, Response, json_response, serve
from meshbox.images import libraries
from meshbox.images.children import end_with, started
from meshbox.images.cluster import Cluster
from meshbox.images.guarded import guarded
from meshbox.images.prometheus.adapt import Surroundings, adapt
from meshbox.images.prometheus.pace import Pace
from meshbox.images.prometheus.program import USER, Program
from meshbox.images.prometheus.scrapes import Scrapes
from meshbox.images.prometheus.targets import RESOURCES, targets
from meshbox.images.standin import about
from meshbox.program import program

__all__ = ["discovery", "door", "forward", "main", "version"]

PORT = 9090
_HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "content-length", "date"}


_DISCOVERY = "/sd"
_PROBES = ("/-/healthy", "/-/ready")
_ITSELF = "/metrics"
"""What Prometheus itself scrapes of itself; whoever else reads it wants to know of Prometheus, not of the mesh."""


def door(inside: App, discovery: App, scrapes: App) -> App:
    """Tells by its target what a request is for: the whole URL of a sidecar, the service discovery, or Prometheus."""

    def app(request: Request) -> Response:
        if not request.target.startswith("/"):
            return scrapes(request)
        return discovery(request) if request.path == _DISCOVERY else inside(request)

    return guarded(app)


def discovery(cluster: Cluster) -> App:
    """Prometheus' service discovery: GET ?role=…&namespaces=a,b."""

    def app(request: Request) -> Response:
        values = parse_qs(urlsplit(request.target).query)
        names = frozenset(filter(None, values.get("namespaces", [""])[0].split(",")))
        return json_response(targets(values.get("role", [""])[0], cluster.objects(), names))

    return app


def forward(program: Program, pace: Pace | None = None) -> App:
    """Hand requests on to the Prometheus behind the password.

    Args:
        program: That Prometheus.
        pace: Has it go on where it is stopped; None where it never is.
    """
    health: dict[str, Response] = {}

    def handed_on(request: Request) -> Response:
        headers = {name: value for name, value in request.items if name.lower() not in {*_HOP_HEADERS, "authorization"}}
        try:
            answer = program.ask(request.target, request.method, headers, request.body or None)
        except OSError as error:
            return Response(503, f"Prometheus does not answer: {error}\n", content_type="text/plain")
        kept = [(name, value) for name, value in answer.headers if name.lower() not in _HOP_HEADERS]
        return Response(answer.status, answer.body, kept, content_type="")

    def app(request: Request) -> Response:
        if pace is None:
            return handed_on(request)
        probe = request.path if request.method == "GET" and request.path in _PROBES else ""
        if probe in health and pace.resting:
            # It ends with this process, so it is there; what it said when it was asked last still holds.
            return health[probe]
        if not probe and request.path != _ITSELF:
            pace.fresh()
        with pace.using():
            answer = handed_on(request)
        if probe:
            health[probe] = answer
        return answer

    return app


def _flags(argv: list[str]) -> dict[str, str]:
    pairs = (argument.lstrip("-").partition("=") for argument in argv if argument.startswith("-"))
    return {name: value for name, _, value in pairs}


def version(program: Path) -> tuple[int, int]:
    """Major and minor version of a Prometheus; (0, 0) if it does not say."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0, 0
    # Version 2 says it on one stream, some builds on the other.
    found = re.search(r"version (\d+)\.(\d+)", said.stdout + said.stderr)
    return (int(found[1]), int(found[2])) if found else (0, 0)


class _Pod:
    """Where this pod's files are, and what its command line asks for."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.version = version(program)
        self.root = Path(os.environ["LABKIT_ROOT"])
        self.flags = _flags(sys.argv[1:])
        source = self.flags.get("config.file", "/etc/prometheus/prometheus.yml")
        # What the node put into the command line is a real path already.
        self.source = Path(source) if source.startswith(str(self.root)) else self.root / source.lstrip("/")
        self.quick = os.environ["LABKIT_CLOCKS"] == "quick"
        self.adapted = self.root / "prometheus.adapted.yml"
        self.address = os.environ["LABKIT_BIND"]
        self.hidden = os.environ["LABKIT_LOCAL_IP"]
        self.api = f"{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"

    def write_config(self) -> None:
        here = Surroundings(
            discovery=f"http://{self.address}:{PORT}{_DISCOVERY}",
            root=self.root,
            api=self.api,
            own=f"{self.address}:{PORT}",
            scrapes=f"http://{self.address}:{PORT}",
            quick=self.quick,
            from_mixer=os.environ["LABKIT_METRICS"] == "mixer",
            shift=int(os.environ.get("LABKIT_LOW_PORT_SHIFT") or 0),
            version=self.version,
        )
        text = _adapted(self.source.read_text(encoding="utf-8", errors="replace"), here)
        # Prometheus may read it again at this moment: half a configuration is refused.
        files.write(self.adapted, text.encode(), lasting=False)

    def command(self, port: int, password: str) -> list[str]:
        import bcrypt

        # Four rounds: the password is random and lives no longer than the pod, and each check costs time.
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
        web = self.root / "web.yml"
        files.write(web, json.dumps({"basic_auth_users": {USER: hashed}}).encode(), lasting=False)
        retention = self.flags.get("storage.tsdb.retention.time") or self.flags.get("storage.tsdb.retention") or "6h"
        data = self.flags.get("storage.tsdb.path", "/prometheus")
        data = data if data.startswith(str(self.root)) else str(self.root / data.lstrip("/"))
        return [
            str(self.program),
            f"--config.file={self.adapted}",
            f"--storage.tsdb.path={data}",
            f"--storage.tsdb.retention.time={retention}",
            f"--web.listen-address={self.hidden}:{port}",
            f"--web.config.file={web}",
            "--web.enable-lifecycle",
            "--log.level=warn",
        ]


def _adapted(text: str, here: Surroundings) -> str:
    import yaml

    try:
        return yaml.safe_dump(adapt(reading.yaml_value(text) or {}, here), sort_keys=False)
    except (reading.ReadingError, AttributeError, TypeError):
        # No configuration of Prometheus: what is wrong with it is best said by Prometheus itself.
        return text


def _scraped_objects(cluster: Cluster) -> tuple[int, ...]:
    """What changes with the pods that are scraped."""
    heard = cluster.heard()
    return tuple(heard[name] for name in ("pod", "endpoints"))


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _watch_source(pod: _Pod) -> None:
    """Adapt anew whenever the ConfigMap's file changes; whoever asks for a reload then gets the new one."""
    seen = pod.source.stat().st_mtime_ns
    while True:
        time.sleep(1)
        try:
            now = pod.source.stat().st_mtime_ns
            if now != seen:
                seen = now
                pod.write_config()
                print("the configuration has changed: POST /-/reload applies it", flush=True)
        except (OSError, ValueError) as error:
            print(f"cannot read {pod.source}: {error}", file=sys.stderr, flush=True)


def _missing() -> int:
    text = f"Prometheus is not installed on this machine. `{program()} setup` fetches it; then delete this pod."
    page = about("Prometheus", text)
    print(text, flush=True)
    healthy = Response(200, "no Prometheus on this machine\n", content_type="text/plain")

    def app(request: Request) -> Response:
        return healthy if request.path.startswith("/-/") else Response(503, page.body)

    return serve({PORT: guarded(app)})


def main() -> int:
    """Entry of the prometheus image."""
    libraries.take()
    program = config.tool("prometheus")
    if program is None:
        return _missing()
    pod = _Pod(program)
    pod.write_config()
    password, port = new_secret(), _free_port(pod.hidden)
    command = pod.command(port, password)
    behind = Program(pod.hidden, port, password)
    cluster = Cluster.of_pod(RESOURCES)
    scrapes = Scrapes(".".join(pod.hidden.split(".")[:2]) + ".")
    pace = Pace(behind, scrapes, lambda: _scraped_objects(cluster)) if pod.quick else None
    children = []

    def start() -> None:
        # Not before the door is open: what Prometheus cannot find at once it looks for a second later.
        children.append(started(command))
        behind.runs_as(children[0])
        threading.Thread(target=_watch_source, args=(pod,), daemon=True).start()
        if pace is not None:
            scrapes.told = pace.touch
            threading.Thread(target=pace.run, daemon=True).start()
        end_with(children[0], "prometheus")

    code = serve({PORT: door(forward(behind, pace), discovery(cluster), scrapes)}, started=start)
    if pace is not None:
        pace.end()
    for child in children:
        child.terminate()
        child.wait()
    return code


if __name__ == "__main__":
    sys.exit(main())
