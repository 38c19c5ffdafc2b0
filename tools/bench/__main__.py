# SPDX-License-Identifier: Apache-2.0
"""``make bench``: measure, print the table, and write build/bench/benchmarks.md. Exit code 1 if a limit is missed."""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import psutil

import meshbox
from labkit.ground import config
from tools.bench import figures
from tools.bench.crowd import crowd
from tools.bench.data_path import hop, throughput
from tools.bench.desk import desk
from tools.bench.figures import Figure
from tools.bench.growing import growing
from tools.bench.idle import idle
from tools.bench.parts import parts
from tools.bench.restored import restored
from tools.bench.telemetry import telemetry
from tools.bench.world import world


def _ready(here: Any) -> list[Figure]:
    """The first page; what is measured after it wants the add-ons as well."""
    rows = figures.zero_to_200(here)
    here.kubectl("wait", "--for=condition=Available", "deployment", "--all", "-A", "--timeout=60s")
    return rows


INSIDE: dict[str, tuple[str, Callable[[Any], list[Figure]]]] = {
    "start": ("from nothing to BookInfo's first page", _ready),
    "rule": ("a rule until new requests follow it", lambda here: [figures.rule_applied(here)]),
    "hop": ("a request through two sidecars, and through the gateway", hop),
    "throughput": ("requests a second", throughput),
    "kubectl": ("kubectl's commands", figures.kubectl_times),
    "telemetry": ("the last answer until all requests are counted", telemetry),
    "memory": ("what the processes hold", figures.memory),
    "desk": ("a kernel's start to the end of a lesson's first cell", desk),
    "idle": ("CPU while nobody asks for anything", lambda here: [idle(here)]),
    "growth": ("a rule's way with more Services in the mesh", figures.growth),
    "restored": ("`labkit up` of a sandbox that was there before", lambda here: [restored(here)]),
    "down": ("until all is stopped", lambda here: [figures.down(here)]),
}
"""What is measured in one sandbox, in this order; `start` first, whichever is asked for."""

ALONE: dict[str, tuple[str, Callable[[str], list[Figure]]]] = {
    "crowd": ("what the daemon takes for many pods", crowd),
    "growing": ("many Services and rules", lambda _: growing()),
    "parts": ("single parts of the sandbox alone", lambda _: parts()),
    "genuine": ("the genuine istio-demo.yaml applied, where it is at hand", lambda _: figures.genuine_apply()),
    "notebooks": ("the notebooks played headless", figures.notebooks),
}
"""What is measured each by itself."""


def measure(release: str, groups: Collection[str]) -> list[Figure]:
    """The figures of some groups, each in a sandbox that starts from nothing."""
    rows: list[Figure] = []
    if not INSIDE.keys().isdisjoint(groups):
        with world(release) as here:
            for name, (_, figures_of) in INSIDE.items():
                if name == "start" or name in groups:
                    rows += figures_of(here)
    for name, (_, alone) in ALONE.items():
        rows += alone(release) if name in groups else []
    return rows


def table(rows: list[Figure]) -> str:
    """The figures as a Markdown table."""
    lines = ["| what | measured | floor in the same run | ratio | limit |", "|---|---|---|---|---|"]
    for row in rows:
        floor = f"{row.floor:.2f} {row.unit} ({row.floor_is})" if row.floor is not None else "–"
        ratio = f"{row.value / row.floor:.1f}" if row.floor else "–"
        limit = "–" if row.limit is None else f"≤ {row.limit:g} {row.unit}" + ("" if row.met else " **missed**")
        lines.append(f"| {row.what} | {row.value:.2f} {row.unit} | {floor} | {ratio} | {limit} |")
    return "\n".join(lines)


def stolen(before: Any, after: Any) -> float:
    """How much of the time that this machine's cores had work its host gave to others: the same run takes longer then.

    Args:
        before: `psutil.cpu_times()` at the start.
        after: The same at the end.

    Returns:
        0 to 1; 0 where the system does not tell.
    """
    spent = {name: getattr(after, name) - getattr(before, name) for name in before._fields}
    taken = spent.get("steal", 0.0)
    # The time of guests is part of that of users.
    wanted = sum(value for name, value in spent.items() if name not in ("idle", "iowait", "guest", "guest_nice"))
    return taken / wanted if wanted else 0.0


def compiled() -> str:
    """Whether the sandbox's modules are kept compiled: a start that compiles them takes half a second more."""
    files = [*Path(meshbox.__path__[0]).rglob("*.py")]
    missing = sum(not _is_compiled(file) for file in files)
    return f"{missing} of {len(files)} modules not compiled" if missing else "modules compiled"


def _is_compiled(file: Path) -> bool:
    kept = Path(importlib.util.cache_from_source(str(file)))
    return kept.exists() and kept.stat().st_mtime >= file.stat().st_mtime


def _asked(argv: Sequence[str] | None) -> tuple[str, list[str]]:
    told = "\n".join(f"  {name:<12}{about}" for name, (about, _) in (*INSIDE.items(), *ALONE.items()))
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench",
        description="Measures this house beside floors taken in the same run, prints a table and writes it to\n"
        "build/bench/benchmarks.md. Exit code 1 if a limit is missed. RELEASE in the environment says\n"
        f"which Istio is played (default: {config.DEFAULT_RELEASE}).",
        epilog=f"groups, all of them unless --only names some:\n{told}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = [*INSIDE, *ALONE]
    parser.add_argument("--only", action="append", choices=known, metavar="GROUP", help="measure it; may be repeated")
    groups = parser.parse_args(argv).only or known
    if (release := os.environ.get("RELEASE") or config.DEFAULT_RELEASE) not in config.RELEASES:
        parser.error(f"RELEASE is {release}; there are {' and '.join(config.RELEASES)}")
    return release, groups


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 if a limit is missed."""
    release, groups = _asked(argv)
    cores, memory = psutil.cpu_count(), psutil.virtual_memory().total / 2**30
    today = datetime.datetime.now(datetime.UTC).date()
    before = psutil.cpu_times()
    rows = measure(release, groups)
    share = stolen(before, psutil.cpu_times())
    machine = f"{cores} cores, {memory:.0f} GiB, {share:.0%} of the time they were wanted given to other machines"
    text = f"Istio {release}, {today}, {machine}; {compiled()}\n\n{table(rows)}\n"
    print(text)
    out = Path("build/bench")
    out.mkdir(parents=True, exist_ok=True)
    (out / "benchmarks.md").write_text(text)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
