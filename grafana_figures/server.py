# SPDX-License-Identifier: Apache-2.0
"""The program of the grafana image: `python -m grafana_figures.server`."""

from __future__ import annotations

import json
import os
import sys

from grafana_figures.pod import Pod
from grafana_figures.site import Answer, Site
from labkit.ground.web import App, Request, Response, serve

__all__ = ["app", "main"]


def app(site: Site) -> App:
    """What the server of `site` answers with."""

    def answer(request: Request) -> Response:
        headers = request.headers
        try:
            found = site.answer(request.method, request.target, headers.get("host", ""), headers.get("origin", ""))
        except Exception:
            # One request's failure is answered and told in the log; the next may go well.
            import traceback

            traceback.print_exc()
            found = Answer(500, json.dumps({"message": "Internal server error"}).encode())
        return Response(found.status, found.body, list(found.headers), found.kind)

    return answer


def main() -> int:
    """Serve until SIGTERM; the exit code."""
    text = os.environ.get("GF_SERVER_HTTP_PORT") or "3000"
    port = int(text) if text.isdigit() else 3000
    version = os.environ.get("LABKIT_IMAGE", "").rpartition(":")[2] or "stand-in"
    pod = Pod.of_environment()

    def started() -> None:
        found = pod.grafana
        print(
            f"Grafana {version}: the workshop's stand-in, {len(found.dashboards)} dashboards, port {port}", flush=True
        )
        print(f"Prometheus: {found.api.url}", flush=True)

    return serve({port: app(Site(lambda: pod.grafana, version))}, started=started)


if __name__ == "__main__":
    sys.exit(main())
