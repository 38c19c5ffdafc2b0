# SPDX-License-Identifier: Apache-2.0
"""A Jupyter server extension: jupyter-server-proxy leads to this machine's own loopback address, and nowhere else.
It also has what kernels say encrypted, and ends those that nobody needs any more (`labkit.ui.idle_kernels`).

A file in the folder `jupyter` beside this one enables it: pip copies that to where Jupyter looks (pyproject.toml).

The relays of the consoles, behind their secrets, listen there. The API server, pods and gateways have other loopback
addresses, and what is outside is nobody's business here: a page in a frame must not reach either through the proxy.
"""

from __future__ import annotations

from typing import Any

from labkit.ground.config import kernel_settings
from labkit.ui import idle_kernels

__all__ = ["ALLOWED"]

ALLOWED = ("localhost", "127.0.0.1")


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "labkit.ui.jupyter_extension"}]


def _link_jupyter_server_extension(serverapp: Any) -> None:
    # All extensions are linked before the first is loaded, and the proxy reads its settings when it is loaded; those
    # of kernels are read later still.
    serverapp.config.ServerProxy.host_allowlist = list(ALLOWED)
    for name, value in kernel_settings().items():
        serverapp.config.KernelManager.setdefault(name, value)
    for name, value in idle_kernels.settings().items():
        serverapp.config.MappingKernelManager.setdefault(name, value)


def _load_jupyter_server_extension(serverapp: Any) -> None:
    idle_kernels.keep_ending(serverapp)
    serverapp.log.info("labkit: the proxy leads to %s only", " and ".join(ALLOWED))
