# SPDX-License-Identifier: Apache-2.0
"""`istioctl version`: ours, the control plane's, and the proxies'."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

from labkit import __version__, cluster
from labkit.istioctl.common import ABOUT, choose, every_pod, version_of

__all__ = ["add_to"]


def add_to(commands: Any, parents: argparse.ArgumentParser) -> None:
    """The command."""
    parser = commands.add_parser("version", parents=[parents], help="print versions")
    parser.add_argument("--remote", default="true", choices=("true", "false"), help="ask the cluster (default: true)")
    parser.add_argument("-s", "--short", nargs="?", const="true", help="taken, and always so")
    parser.set_defaults(action=_run)


def _run(args: argparse.Namespace) -> int:
    print(f"client version: labkit {__version__}. {ABOUT}")
    if args.remote == "false":
        return 0
    choose(args)
    # Today's is called istiod, that of 1.2 pilot.
    control = cluster.get("pods", namespace=args.system, labels="istio=pilot")
    print(f"control plane version: {', '.join(sorted({version_of(one, 'discovery') for one in control})) or 'none'}")
    proxies = Counter(version_of(one, "istio-proxy") for one in every_pod())
    print("data plane version: " + (", ".join(f"{v} ({n} proxies)" for v, n in sorted(proxies.items())) or "none"))
    return 0
