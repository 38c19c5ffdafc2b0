# SPDX-License-Identifier: Apache-2.0
"""`openssl s_client` in a pod: the machine's own, led to what this pod's names stand for, and through the sidecar."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["led", "main"]

# By the name it has where it runs.
_names: Any = importlib.import_module("curl_config")


def led(env: Mapping[str, str], arguments: list[str]) -> list[str]:
    """The arguments, with the address that is meant in place of the name that `-connect` gives."""
    if arguments[:1] != ["s_client"] or "-connect" not in arguments[:-1]:
        return arguments
    at = arguments.index("-connect") + 1
    host, _, written = arguments[at].rpartition(":")
    if not written.isdecimal():
        return arguments
    address, port, local = _names.where(env).get(host.rstrip(".").lower(), host), int(written), env["LABKIT_LOCAL_IP"]
    block = ".".join(local.split(".")[:2]) + "."
    if host in ("localhost", "127.0.0.1"):
        address = local if env.get("LABKIT_CAPTURE") else env.get("LABKIT_POD_IP", local)
    elif env.get("LABKIT_CAPTURE") and address.startswith(block):
        targets = {(host, port): (address, port)}
        address, port = local, importlib.import_module("raw_relay").start(env, targets)[host, port]
    elif address.startswith(block) and port < 1024:
        port += int(env.get("LABKIT_LOW_PORT_SHIFT") or 0)
    found = [*arguments[:at], f"{address}:{port}", *arguments[at + 1 :]]
    # The name that openssl is given it says to the server as well.
    if host.replace(".", "").isdecimal() or {"-servername", "-noservername"} & set(arguments):
        return found
    return [*found, "-servername", host]


def main() -> None:
    """Become the real openssl."""
    arguments = sys.argv[1:]
    real = _names.program("openssl")
    if os.environ.get("LABKIT_LOCAL_IP"):
        arguments = led(os.environ, arguments)
    os.execv(real, ["openssl", *arguments])


if __name__ == "__main__":
    main()
