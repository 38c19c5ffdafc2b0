# SPDX-License-Identifier: Apache-2.0
"""Checks the shape of the house: no Python file of 400 lines, a labkit to be read in an evening, licences named."""

from __future__ import annotations

import sys
from pathlib import Path

# Run as a script, as hooks do, it finds its own folder only.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools import spdx

LIMIT = 400

MOST = {"labkit": 23_950, "labkit/ground": 4_400, "labkit/course/exercises": 3_610}
"""Lines that a part may have. For what lessons call, labkit without its ground floor, the aim is 7 000 and the figure
falls, save for what labkit did not do before: what is inside an Envoy and the way of a request (2 850), traffic
beside a lesson and the map of the mesh (1 130), exercises, guesses, buttons and typed cells (900), what lessons 04 to
07 did by hand in cells (450), who may call whom (370), a run that ends at once (30), what chance does to counts
(170), a class: seats, who is how far, any lesson's start, editions, a glossary (1 000), TLS at the gateway: who shows
which certificate, credentials that are not there, a port-forward for https (240), Gateways of the Gateway API (40),
what an Envoy sends to each endpoint (60), exercises that go on from each other (10), what proxies wrote of a
request, with Envoy's flags in words (420), slides (240), the course in other languages (320, of them 150 on the
ground floor, since errors speak them too), 57 messages of Istio's analyzers in place of six (1 500), an istioctl for
those who have none (1 940), a course that waits for less: when counts are there, a notebook written seldom (90), and
answers of Prometheus that are no plain numbers, and figures as pictures (100, of them 40 on the ground floor).
Definitions of exercises are words and judges, course material as the notebooks are: 200 lines a lesson that steers
the mesh, 300 with objects in several namespaces or with four exercises; the world outside of it (170); the faults of
lesson 18 (90); and the exam, its budget and its certificate (780). The ground floor, which all packages share,
grows by what several of them need.
"""


def _part(path: Path) -> str:
    # Types are made by a tool from tables and schemas, for mypy alone: nobody reads them in an evening.
    if path.parts[:3] == ("labkit", "ground", "typed"):
        return "labkit/ground/typed"
    if path.parts[:3] == ("labkit", "course", "exercises"):
        return "labkit/course/exercises"
    return "labkit/ground" if path.parts[:2] == ("labkit", "ground") else path.parts[0]


def main() -> int:
    """Print what is out of shape; exit code 1 if anything is."""
    sources = spdx.sources()
    # The line with the licence is in all of them, and no reader's burden.
    lengths = {
        path: sum(spdx.LINE not in line for line in path.read_text().splitlines())
        for path in sources
        if path.suffix == ".py"
    }
    wrong = [
        f"{path}: {count} lines, the limit is {LIMIT}: split it" for path, count in lengths.items() if count >= LIMIT
    ]
    told = []
    for package in (
        "labkit",
        "labkit/ground",
        "labkit/course/exercises",
        "labkit/ground/typed",
        "meshbox",
        "grafana_figures",
        "tests",
    ):
        lines = sum(count for path, count in lengths.items() if _part(path) == package)
        told.append(f"{package} {lines}")
        if lines > MOST.get(package, lines):
            wrong.append(f"{package}: {lines} lines, the limit is {MOST[package]}: say it shorter")
    # Where this file names its licence, all others do.
    if not spdx.lacks(Path(__file__)):
        wrong += [
            f"{path}: names no licence: `python -m tools.spdx` adds the line" for path in filter(spdx.lacks, sources)
        ]
    print(f"{len(lengths)} Python files; lines: {', '.join(told)}")
    for line in wrong:
        print(line, file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
