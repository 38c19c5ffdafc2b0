# SPDX-License-Identifier: Apache-2.0
"""60 kills over all kinds of processes of a mesh, at 50 requests a second: all is right again within 5 s."""

from __future__ import annotations

import itertools
import os

import pytest

from tests.conftest import wait_until
from tests.e2e.mending import Api, Recovery, Target, recovery, settled, targets, under_load
from tests.shops import open_shop

pytestmark = pytest.mark.timeout(3600)

KILLS, RATE = int(os.environ.get("LABKIT_KILLS", "60")), 50
BOUND = 5.0
SCRAPED = 10.0
"""Prometheus itself looks for its targets 5 s after it has started, which no option of it shortens; what it had
stored is there at once."""


def order(kinds: list[str]) -> list[str]:
    """All kinds again and again, what serves all pods last in each round."""
    return sorted(kinds, key=lambda kind: ({"keeper": 1, "daemon": 2}.get(kind, 0), kind.partition(": ")[2], kind))


@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
def test_whatever_is_killed_is_back_soon(start_sandbox, figure, release):
    shop = open_shop(start_sandbox, release)
    api = Api(shop)
    seen: list[Recovery] = []
    with under_load(shop, RATE) as load:
        kinds = order([target.kind for target in targets(shop, api)])
        wait_until(lambda: len(load.answers) > RATE, 60, "answers")
        for number, kind in zip(range(KILLS), itertools.cycle(kinds), strict=False):
            target = wait_until(lambda k=kind: find(targets(shop, api), k), 60, f"a process {kind}")
            wait_until(lambda t=target: settled(api, t), 60, f"{kind} has run for a while")
            seen.append(recovery(shop, api, load, target, f"{number}"))
            print(number, kind, seen[-1].when, flush=True)
    sent = len(load.answers)
    slowest = max(seen, key=lambda one: one.took(without=("scraped",)))
    within = sum(one.took(without=("scraped",)) <= BOUND for one in seen)
    figure(f"{release}: kills of {len(kinds)} processes at {RATE} requests/s that were recovered", within, f"{KILLS}")
    took = f"{slowest.took(without=('scraped',))} s ({slowest.target.kind})"
    figure(f"{release}: slowest recovery", took, f"<= {BOUND:g} s")
    new = max(one.when.get("scraped", float("inf")) for one in seen)
    figure(f"{release}: slowest new sample in Prometheus", f"{new} s", f"<= {SCRAPED:g} s")
    wrong = sum(status != 200 for _, status, _ in load.answers)
    figure(f"{release}: requests without the page during {KILLS} kills", f"{wrong} of {sent}", "told, not bound")
    assert [one.target.kind for one in seen if one.others] == [], "containers that were not killed were restarted"
    assert [(one.target.kind, one.when) for one in seen if one.took(without=("scraped",)) > BOUND] == []
    assert new <= SCRAPED


def find(found: list[Target], kind: str) -> Target | None:
    return next((target for target in found if target.kind == kind), None)
