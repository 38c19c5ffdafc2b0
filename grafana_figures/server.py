"""The program of the grafana image: `python -m grafana_figures.server`."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from http.server import HTTPServer
from pathlib import Path

from grafana_figures.pod import Pod
from grafana_figures.site import Answer, Site
from labkit.ground.handler import BoundedHandler, BoundedServer

__all__ = ["main", "server"]


class _Handler(BoundedHandler):
    site: Site

    def do_GET(self) -> None:  # noqa: N802 (its name)
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin", "")
        try:
            answer = self.site.answer(self.command, self.path, host, origin)
        except Exception:
            # One request's failure is answered and told in the log; the next may go well.
            import traceback

            traceback.print_exc()
            answer = Answer(500, b'{"message": "Internal server error"}')
        if self.command in ("POST", "PUT", "PATCH", "DELETE") or self.body_length() != 0:
            # What a refused request carries is not read, so nothing may follow on this connection.
            self.close_connection = True
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        length = answer.body.stat().st_size if isinstance(answer.body, Path) else len(answer.body)
        self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(answer.body, Path):
            with answer.body.open("rb") as file:
                shutil.copyfileobj(file, self.wfile)
        else:
            self.wfile.write(answer.body)

    def __getattr__(self, name: str) -> Callable[[], None]:
        # HEAD is answered as GET without its body; everything that writes is refused, with a reason.
        if name.removeprefix("do_") in ("HEAD", "POST", "PUT", "PATCH", "DELETE"):
            return self.do_GET
        raise AttributeError(name)


class _Server(BoundedServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away in the middle is no fault of ours; anything else is told."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def server(site: Site, address: str, port: int) -> HTTPServer:
    """A server of `site` that listens; call `serve_forever`, and `server_close` at the end.

    Args:
        site: What is answered.
        address: Where to listen.
        port: The port; 0 for a free one.

    Raises:
        OSError: the port cannot be bound.
    """
    return _Server((address, port), type("Handler", (_Handler,), {"site": site}))


def main() -> int:
    """Serve until SIGTERM; the exit code."""
    text = os.environ.get("GF_SERVER_HTTP_PORT") or "3000"
    port = int(text) if text.isdigit() else 3000
    version = os.environ.get("LABKIT_IMAGE", "").rpartition(":")[2] or "stand-in"
    address = os.environ.get("LABKIT_BIND", "127.0.0.1")
    pod = Pod.of_environment()
    try:
        served = server(Site(lambda: pod.grafana, version), address, port)
    except OSError as error:
        print(f"cannot listen on {address}:{port}: {error.strerror}", file=sys.stderr)
        return 1
    found = pod.grafana
    print(f"Grafana {version}: the workshop's stand-in, {len(found.dashboards)} dashboards, port {port}", flush=True)
    print(f"Prometheus: {found.api.url}", flush=True)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 60}, daemon=True).start()
    ended.wait()
    served.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
