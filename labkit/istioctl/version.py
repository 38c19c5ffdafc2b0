# SPDX-License-Identifier: Apache-2.0
"""`istioctl version`: ours, the control plane's, and the proxies'."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

import yaml

from labkit import __version__, cluster
from labkit.istioctl.common import ABOUT, ISTIODS, choose, every_pod, version_of

__all__ = ["add_to"]


def add_to(commands: Any, parents: argparse.ArgumentParser) -> None:
    """The command."""
    parser = commands.add_parser("version", parents=[parents], help="print versions")
    parser.add_argument("--remote", default="true", choices=("true", "false"), help="ask the cluster (default: true)")
    parser.add_argument("-s", "--short", nargs="?", const="true", help="taken, and always so")
    parser.add_argument("-o", "--output", default="", choices=("yaml", "json"), help="as yaml or json")
    parser.set_defaults(action=_run)


def _run(args: argparse.Namespace) -> int:
    told: dict[str, Any] = {"clientVersion": {"version": f"labkit {__version__}"}}
    if args.remote == "true":
        choose(args)
        # Today's is called istiod, that of 1.2 pilot.
        control = cluster.get("pods", namespace=args.system, labels=ISTIODS)
        told["meshVersion"] = [
            {
                "Component": "pilot",
                "Revision": (one["metadata"].get("labels") or {}).get("istio.io/rev", "default"),
                "Info": {"version": version_of(one, "discovery")},
            }
            for one in control
        ]
        told["dataPlaneVersion"] = [
            {
                "ID": f"{one['metadata']['name']}.{one['metadata']['namespace']}",
                "IstioVersion": version_of(one, "istio-proxy"),
            }
            for one in every_pod()
        ]
    if args.output:
        print(json.dumps(told, indent=2) if args.output == "json" else yaml.safe_dump(told).rstrip())
        return 0
    print(f"client version: labkit {__version__}. {ABOUT}")
    if args.remote == "true":
        control_planes = sorted({one["Info"]["version"] for one in told["meshVersion"]})
        proxies = sorted(Counter(one["IstioVersion"] for one in told["dataPlaneVersion"]).items())
        print(f"control plane version: {', '.join(control_planes) or 'none'}")
        print("data plane version: " + (", ".join(f"{v} ({n} proxies)" for v, n in proxies) or "none"))
    return 0
