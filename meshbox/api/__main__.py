# SPDX-License-Identifier: Apache-2.0
"""The API server alone, without controllers and pods: ``python -m meshbox.api --home DIR --number X``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from labkit.ground.errors import LabError
from meshbox import kept
from meshbox.addresses import AddressPlan
from meshbox.api.objects import ObjectStore
from meshbox.api.server import ApiServer
from meshbox.settings import SandboxSettings


async def _serve(settings: SandboxSettings) -> None:
    objects = ObjectStore(settings)
    try:
        server = ApiServer(objects, settings, None)
        await server.start()
        print(f"export KUBECONFIG={settings.home / 'kubeconfig'}", flush=True)
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()
        await server.stop()
    finally:
        objects.close()


def main() -> int:
    """Serve until SIGINT or SIGTERM; prints how to reach it."""
    parser = argparse.ArgumentParser(prog="python -m meshbox.api", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="folder for objects, keys and kubeconfig")
    parser.add_argument("--release", default="1.30.3", help="Istio release whose time is played")
    parser.add_argument("--number", type=int, required=True, help="X in 127.X.0.0/16, 1 to 254")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    home: Path = arguments.home.absolute()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        token = kept.token(home)
        settings = SandboxSettings(home.name, home, arguments.release, AddressPlan.of(arguments.number), token)
        asyncio.run(_serve(settings))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
