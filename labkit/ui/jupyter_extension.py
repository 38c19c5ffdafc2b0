"""A Jupyter server extension: jupyter-server-proxy leads to this machine's own loopback address, and nowhere else.
It also has what kernels say encrypted.

`python -m labkit.ui.jupyter_extension` enables it for every Jupyter server of this Python's environment.

The relays of the consoles, behind their secrets, listen there. The API server, pods and gateways have other loopback
addresses, and what is outside is nobody's business here: a page in a frame must not reach either through the proxy.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from labkit.ground import files
from labkit.ground.config import kernel_settings

__all__ = ["ALLOWED", "enable"]

ALLOWED = ("localhost", "127.0.0.1")


def enable(prefix: Path) -> Path:
    """Have Jupyter servers start the extension.

    Args:
        prefix: Of the Python environment that they belong to.

    Returns:
        The file that says so.
    """
    file = prefix / "etc" / "jupyter" / "jupyter_server_config.d" / "labkit.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    setting = {"ServerApp": {"jpserver_extensions": {"labkit.ui.jupyter_extension": True}}}
    files.write(file, json.dumps(setting).encode() + b"\n", mode=0o644)
    return file


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "labkit.ui.jupyter_extension"}]


def _link_jupyter_server_extension(serverapp: Any) -> None:
    # All extensions are linked before the first is loaded, and the proxy reads its settings when it is loaded; those
    # of kernels are read later still.
    serverapp.config.ServerProxy.host_allowlist = list(ALLOWED)
    for name, value in kernel_settings().items():
        serverapp.config.KernelManager.setdefault(name, value)


def _load_jupyter_server_extension(serverapp: Any) -> None:
    serverapp.log.info("labkit: the proxy leads to %s only", " and ".join(ALLOWED))


if __name__ == "__main__":
    print(f"enabled in {enable(Path(sys.prefix))}")
