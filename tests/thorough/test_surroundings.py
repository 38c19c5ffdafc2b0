# SPDX-License-Identifier: Apache-2.0
"""Every odd surrounding, as root and as an ordinary user: the sandbox starts, or says why in one sentence."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.surroundings.odd import ODD, Odd
from tests.surroundings.play import play, players

PLAYERS = players()
_seen: dict[tuple[str, str], str] = {}


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd.name)
def test_it_starts_or_says_why(odd: Odd, player: str) -> None:
    _seen[player, odd.name] = "failed"
    _seen[player, odd.name] = play(odd, player)


def test_the_figure(figure: Callable[[str, object, str], None]) -> None:
    for player in PLAYERS:
        seen = [outcome for (who, _), outcome in _seen.items() if who == player]
        runs, failed = seen.count("runs"), seen.count("failed")
        text = f"{len(seen)}: {runs} run, {len(seen) - runs - failed} say why, {failed} neither"
        figure(f"odd surroundings as {player}", text, "33 or more, 0 neither")
