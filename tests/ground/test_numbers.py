# SPDX-License-Identifier: Apache-2.0
"""Whole numbers as Go reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.ground.numbers import whole


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_64_bit_integer(number: int) -> None:
    assert whole(str(number)) == number
    assert whole(f"{number:+}") == number
    assert whole(f"{number:024}") == number


@pytest.mark.parametrize(
    "text",
    ["", "-", "+", " 1", "1_0", "1.0", "²", "٣", "0x1", "--1", "9223372036854775808", "9" * 5000, None, 5, "1\n"],
)
def test_everything_else_is_none(text: object) -> None:
    assert whole(text) is None
