# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the daemon while clients write: what was acknowledged is there, and nothing is half there."""

from __future__ import annotations

from tests.e2e.kills import Killed


def test_every_acknowledged_write_survives_a_kill(start_sandbox):
    killed = Killed(start_sandbox("1.30.3", name="killed"), seed=5)
    for _ in range(5):
        killed.round()
    assert killed.acknowledged > 0
