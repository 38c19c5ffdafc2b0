"""A Jupyter server extension: jupyter-server-proxy leads to this machine's own loopback address, and nowhere else.

The relays of the consoles, behind their secrets, listen there. The API server, pods and gateways have other loopback
addresses, and what is outside is nobody's business here: a page in a frame must not reach either through the proxy.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ALLOWED"]

ALLOWED = ("localhost", "127.0.0.1")


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _link_jupyter_server_extension(serverapp: Any) -> None:
    # All extensions are linked before the first is loaded, and the proxy reads its settings when it is loaded.
    serverapp.config.ServerProxy.host_allowlist = list(ALLOWED)


def _load_jupyter_server_extension(serverapp: Any) -> None:
    serverapp.log.info("labkit: the proxy leads to %s only", " and ".join(ALLOWED))
