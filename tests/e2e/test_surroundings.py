# SPDX-License-Identifier: Apache-2.0
"""Odd surroundings of which a moment is enough to see what comes; all of them are in tests/thorough."""

from __future__ import annotations

import pytest

from tests.surroundings.odd import ODD, Odd
from tests.surroundings.play import play, players


@pytest.mark.parametrize("player", players())
@pytest.mark.parametrize("odd", [odd for odd in ODD if not odd.heavy], ids=lambda odd: odd.name)
def test_it_says_why_in_one_sentence(odd: Odd, player: str) -> None:
    assert play(odd, player) != "runs"
