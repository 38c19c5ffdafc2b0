# SPDX-License-Identifier: Apache-2.0
"""``make bench``: measure, print the table, and write build/bench/benchmarks.md. Exit code 1 if a limit is missed."""

from __future__ import annotations

import datetime
import importlib.util
import os
import sys
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


def measure(release: str) -> list[Figure]:
    """Every figure, each in a sandbox that starts from nothing."""
    rows: list[Figure] = []
    with world(release) as here:
        rows += figures.zero_to_200(here)
        here.kubectl("wait", "--for=condition=Available", "deployment", "--all", "-A", "--timeout=60s")
        rows.append(figures.rule_applied(here))
        rows += hop(here)
        rows += throughput(here)
        rows += figures.kubectl_times(here)
        rows += telemetry(here)
        rows += figures.memory(here)
        rows += desk(here)
        rows.append(idle(here))
        rows += figures.growth(here)
        rows.append(restored(here))
        rows.append(figures.down(here))
    rows += crowd(release)
    rows += growing()
    rows += parts()
    rows += figures.genuine_apply()
    rows += figures.notebooks(release)
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


def main() -> int:
    """Measure and print; exit code 1 if a limit is missed."""
    release = os.environ.get("RELEASE") or config.DEFAULT_RELEASE
    cores, memory = psutil.cpu_count(), psutil.virtual_memory().total / 2**30
    today = datetime.datetime.now(datetime.UTC).date()
    before = psutil.cpu_times()
    rows = measure(release)
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
