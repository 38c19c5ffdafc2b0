# SPDX-License-Identifier: Apache-2.0
"""Prometheus, Grafana, Jaeger, Kiali and BookInfo in JupyterLab's launcher, through jupyter-server-proxy.

The proxy asks here what to start when somebody opens one: a process of ours, which relays to the sandbox that plays the
release of the course: the one that `$KUBECONFIG` names, if it does. It listens on loopback, and answers only below a
secret path.

It knows nothing of notebooks, so it never talks to a cluster of the reader's own, whatever `$KUBECONFIG` says:
`ui.embed` shows the consoles of the cluster that a notebook has begun on.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labkit import cluster, user
from labkit.choice import chosen
from labkit.cluster.leash import end_with_parent
from labkit.ground import sandboxes
from labkit.ground.errors import NoTargetError
from labkit.ground.guard import new_secret

__all__ = ["bookinfo", "grafana", "jaeger", "kiali", "main", "prometheus"]

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


def bookinfo() -> dict[str, Any]:
    """What jupyter-server-proxy is to know of BookInfo's own page."""
    return _server("bookinfo", "BookInfo")


def _server(name: str, title: str = "") -> dict[str, Any]:
    # New with each start of the Jupyter server, and on nobody's command line.
    secret = new_secret()
    return {
        "command": [sys.executable, "-m", "labkit.ui.embed_launcher", name, "{port}"],
        "environment": {_SECRET: secret},
        "timeout": 30,
        "launcher_entry": {
            # The proxy's own tiles have a letter where the icon should be: labkit's extension of JupyterLab draws them.
            "enabled": False,
            "title": title or name.capitalize(),
            "path_info": f"lab-{name}/{secret}/",
            "category": "Istio",
            "icon_path": str(Path(__file__).with_name("icons") / f"{name}.svg"),
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Relay to an add-on until told to end: NAME PORT."""
    # The proxy ends its processes when it ends itself; of a Jupyter server that is killed they would be left.
    end_with_parent()
    from labkit.ui.embedding import open_relay

    name, port = sys.argv[1:] if argv is None else argv
    open_relay(name, int(port), os.environ.pop(_SECRET), _Sandbox().choose).wait()
    return 0


class _Sandbox:
    """The sandbox that tiles lead to; it may start, and start anew, after this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chosen = ("", 0, 0)

    def choose(self) -> cluster.Chosen:
        """It, in use."""
        with self._lock:
            # What the course runs on may change at any time, and the releases have a sandbox each.
            name = sandboxes.named(chosen().release, user.sandbox())
            kubeconfig = sandboxes.kubeconfig(name)
            try:
                seen = kubeconfig.stat()
            except OSError:
                raise NoTargetError(
                    f"there is no sandbox {name!r} here",
                    next_step="`labkit up` starts it. On a cluster of yours, `ui.embed` in a notebook shows this.",
                ) from None
            # Each start of a sandbox writes it anew, and may be at another address.
            if self._chosen == (now := (name, seen.st_ino, seen.st_mtime_ns)):
                with contextlib.suppress(NoTargetError):
                    return cluster.current()
            found = cluster.use(cluster.Target(str(kubeconfig)))
            self._chosen = now
            return found


if __name__ == "__main__":
    sys.exit(main())
