# SPDX-License-Identifier: Apache-2.0
"""Which small faults no test notices: `nice -n 15 python -m tools.mutants meshbox/mesh/matches.py --minutes 10`.

Each mutant is one change of one expression or statement of a module. The quick tests of the files that are related to
the module (`RELATED`) run against it, in a process of its own with a time limit; no file is changed. What survives is
printed: docs/testing-mutants.md says what was found so, and why some must survive.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import time
from pathlib import Path

import pytest

from tools.mutants.trials import Trials, forked

REPOSITORY = Path(__file__).resolve().parents[2]


def _mesh(*names: str) -> list[str]:
    return [f"tests/mesh/test_{name}.py" for name in names]


_FILES = ("routes", "matches", "actions", "hosts", "clusters", "gateways", "tcp", "listeners")
ROUTING = _mesh(*(f"mesh_{name}" for name in _FILES))
GATEWAY_API = _mesh("gateway_api_routes", "gateway_api_rules", "gateway_api_tables")
RELATED = {
    "meshbox/mesh/authorization.py": _mesh("mesh_authorization"),
    "meshbox/mesh/clusters.py": _mesh("mesh_clusters", "mesh_cluster_details"),
    "meshbox/mesh/denials.py": _mesh("mesh_denials"),
    "meshbox/mesh/gateway_api/": GATEWAY_API,
    "meshbox/mesh/http_routes.py": _mesh(
        *("mesh_routes", "mesh_actions", "mesh_matches", "mesh_hosts", "gateway_api_tables")
    ),
    "meshbox/mesh/inbound.py": _mesh(
        "mesh_inbound", "mesh_listeners", "mesh_sidecars", "mesh_hosts", "mesh_remembered"
    ),
    "meshbox/mesh/listeners.py": _mesh(
        *("mesh_listeners", "mesh_listener_details", "mesh_shared_ports", "mesh_tcp", "mesh_entries", "mesh_remembered")
    ),
    "meshbox/mesh/matches.py": _mesh("mesh_matches"),
    "meshbox/mesh/tcp_routes.py": _mesh(
        *("mesh_tcp", "mesh_shared_ports", "mesh_destinations", "mesh_entries", "mesh_gateways", "mesh_origins")
    ),
    "meshbox/mesh/virtual_hosts.py": _mesh("mesh_hosts", "mesh_sidecars"),
    "meshbox/mesh/": [*ROUTING, *GATEWAY_API],
    "labkit/ground/archives.py": ["tests/ground/test_archives.py", "tests/istio/test_fetch.py"],
    "labkit/ground/config.py": ["tests/istio/test_releases.py"],
    "labkit/ground/download.py": ["tests/istio/test_fetch.py"],
    "labkit/ground/errors.py": ["tests/ui/test_ui_display.py"],
    "labkit/ground/hosts.py": ["tests/ground/test_hosts.py", "tests/test_routing.py"],
    "labkit/ground/prometheus.py": ["tests/ground/test_prometheus_api.py"],
    "labkit/ground/reading/": ["tests/test_reading.py", "tests/ground/test_numbers.py"],
    "labkit/ground/transfer.py": ["tests/ground/test_transfer.py", "tests/istio/test_fetch.py"],
    "labkit/ground/web.py": ["tests/test_web.py", "tests/test_framing.py"],
}
"""The test files to run for a module or a folder; for any other those of its name. What is not there is left out."""

QUICK = "not long and not thorough"
"""The tests that are run: others start programs, and a mutant would take a minute."""


def tests_of(module: str) -> list[str]:
    """The test files that are related to a module and there."""
    own = [f"{folder}/test_{Path(module).stem}.py" for folder in ("tests", "tests/ground")]
    found = next((files for start, files in RELATED.items() if module.startswith(start)), own)
    return [file for file in found if (REPOSITORY / file).exists()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="+", help="as meshbox/mesh/matches.py")
    parser.add_argument("--tests", nargs="+", help="test files, instead of the related ones")
    parser.add_argument("--lines", nargs="+", type=int, default=[], help="only the mutants of these lines")
    parser.add_argument("--minutes", type=float, default=20, help="for all modules together")
    parser.add_argument("--seed", type=int, default=0, help="of the order in which mutants are tried")
    args = parser.parse_args()
    os.chdir(REPOSITORY)
    end = time.monotonic() + args.minutes * 60
    # One after the other; the plugin stays, since tests/conftest.py has hooks of it.
    options = ["-q", "--capture=sys", "-p", "no:cacheprovider", "-p", "no:randomly", "-n0", "-p", "no:cov", "-m", QUICK]
    for index, module in enumerate(args.modules):
        now = time.monotonic()
        until = now + (end - now) / (len(args.modules) - index)
        tests = args.tests or tests_of(module)
        if not tests:
            print(f"{module}: no test files are related to it")
            continue

        def whole(module: str = module, tests: list[str] = tests, until: float = until) -> int:
            trials = Trials(module, until, random.Random(args.seed), args.lines)
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                return int(pytest.main([*options, *tests], [trials]))

        if forked(whole, 3600) not in (0, 5):
            print(f"{module}: {' '.join(tests)} cannot be run, or fail without any mutant")


if __name__ == "__main__":
    main()
