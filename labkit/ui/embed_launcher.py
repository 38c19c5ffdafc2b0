"""Prometheus, Grafana, Jaeger and Kiali in JupyterLab's launcher, through jupyter-server-proxy.

The proxy asks here what to start when somebody opens one: a process of ours, which relays to the cluster of
`$KUBECONFIG`, else to the default sandbox. It listens on loopback, and answers only below a secret path.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labkit import cluster, config

__all__ = ["grafana", "jaeger", "kiali", "main", "prometheus"]

_SECRET = "LABKIT_RELAY_SECRET"  # noqa: S105 (the name of a variable)


def prometheus() -> dict[str, Any]:
    """What jupyter-server-proxy is to know of Prometheus."""
    return _server("prometheus")


def grafana() -> dict[str, Any]:
    """What jupyter-server-proxy is to know of Grafana."""
    return _server("grafana")


def jaeger() -> dict[str, Any]:
    """What jupyter-server-proxy is to know of Jaeger."""
    return _server("jaeger")


def kiali() -> dict[str, Any]:
    """What jupyter-server-proxy is to know of Kiali."""
    return _server("kiali")


def _server(name: str) -> dict[str, Any]:
    # New with each start of the Jupyter server, and on nobody's command line.
    secret = secrets.token_urlsafe(18)
    return {
        "command": [sys.executable, "-m", "labkit.ui.embed_launcher", name, "{port}"],
        "environment": {_SECRET: secret},
        "timeout": 30,
        "launcher_entry": {
            "title": name.capitalize(),
            "path_info": f"lab-{name}/{secret}/",
            "category": "Istio",
            "icon_path": str(Path(__file__).with_name("icons") / f"{name}.svg"),
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Relay to an add-on until told to end: NAME PORT."""
    from labkit.ui.embedding import open_relay

    name, port = sys.argv[1:] if argv is None else argv
    default = config.home() / "sandboxes" / "default" / "kubeconfig"
    if not os.environ.get("KUBECONFIG") and default.exists():
        cluster.use(cluster.Target(str(default)))
    open_relay(name, int(port), os.environ.pop(_SECRET)).wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
