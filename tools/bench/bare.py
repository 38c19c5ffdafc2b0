# SPDX-License-Identifier: Apache-2.0
"""The floors: Envoys that only forward, and plain Python servers."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from labkit.ground import config
from tools.bench.world import status_of, wait_for


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


ROUTES = """
virtual_hosts:
- name: all
  domains: ["*"]
  routes:
  - match: {prefix: /}
    %s
"""

BOOTSTRAP = """
node: {id: bare, cluster: bare}
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: %(port)d}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bare
          %(routes)s
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: up
    connect_timeout: 1s
    load_assignment:
      cluster_name: up
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: %(host)s, port_value: %(upstream)d}}}
"""


def routes_file(folder: Path, status: int | None = None) -> Path:
    """A file of routes for `bare_envoy`: to its upstream, or (given `status`) answering at once.

    Written beside and moved in place, as Envoy wants it; returns the path to watch.
    """
    action = f"direct_response: {{status: {status}}}" if status else "route: {cluster: up}"
    resource = "\n".join(f"  {line}" for line in (ROUTES % action).strip().splitlines())
    text = (
        'version_info: "1"\nresources:\n'
        '- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration\n'
        f"  name: bare\n{resource}\n"
    )
    target = folder / "rds.yaml"
    fresh = folder / "rds.yaml.new"
    fresh.write_text(text)
    return fresh.rename(target)


def bare_envoy(folder: Path, upstream: tuple[str, int], rds: Path | None = None) -> tuple[subprocess.Popen[bytes], int]:
    """An Envoy that only forwards: no filters, no statistics of its own, no TLS.

    Args:
        folder: Where its configuration goes.
        upstream: Address and port.
        rds: Read the routes from this file instead, and follow it.

    Returns:
        The process and the port it listens on at 127.0.0.1.
    """
    port = free_port()
    if rds:
        routes = (
            "rds: {route_config_name: bare, config_source: {resource_api_version: V3, "
            f"path_config_source: {{path: {rds}}}}}}}"
        )
    else:
        everything = "{name: all, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: up}}]}"
        routes = f"route_config: {{virtual_hosts: [{everything}]}}"
    file = folder / f"bare-{port}.yaml"
    file.write_text(BOOTSTRAP % {"port": port, "routes": routes, "host": upstream[0], "upstream": upstream[1]})
    command = [str(config.tool("envoy")), "-c", str(file), "--concurrency", "1", "--disable-hot-restart"]
    return subprocess.Popen(
        [*command, "--log-level", "off"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ), port


SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def do_GET(self):
        body = b'{"id": 0}'
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
"""


def bare_server() -> tuple[subprocess.Popen[bytes], int]:
    """A plain Python HTTP server in a process of its own."""
    port = free_port()
    return subprocess.Popen([sys.executable, "-c", SERVER, str(port)]), port


@contextlib.contextmanager
def ending(processes: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    """End `processes` whatever happens."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


@contextlib.contextmanager
def bare_world(envoys: int, pythons: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """As many Envoys and servers as a world has, bare and answering; its processes."""
    with tempfile.TemporaryDirectory() as folder:
        servers = [bare_server() for _ in range(pythons)]
        proxies = [bare_envoy(Path(folder), ("127.0.0.1", servers[i % pythons][1])) for i in range(envoys)]
        running = [process for process, _ in servers + proxies]
        with ending(running):
            for _, port in proxies:
                # One at a time, which is why the loop's own variable will do.
                wait_for(lambda: status_of("127.0.0.1", port, "/") == 200)  # noqa: B023
            yield running
