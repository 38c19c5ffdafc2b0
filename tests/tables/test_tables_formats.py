# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import UTC, datetime

import pytest

from meshbox.api.tables.formats import age, clip, human_duration, label_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1.5, "0s"),
        (0.9, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (599, "9m59s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600 - 1, "7h59m"),
        (8 * 3600, "8h"),
        (48 * 3600 - 1, "47h"),
        (48 * 3600, "2d"),
        (49 * 3600, "2d1h"),
        (8 * 86400 - 1, "7d23h"),
        (8 * 86400, "8d"),
        (2 * 365 * 86400 - 1, "729d"),
        (2 * 365 * 86400, "2y"),
        (2 * 365 * 86400 + 86400, "2y1d"),
        (8 * 365 * 86400, "8y"),
    ],
)
def test_durations_as_kubectl_writes_them(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


def test_ages() -> None:
    now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assert age("2026-01-01T00:00:00Z", now) == "60s"
    assert age("2026-01-01T00:00:30.500000Z", now) == "29s"
    assert age("2026-01-01T01:00:00+01:00", now) == "60s"
    assert age(None, now) == "<unknown>"
    assert age("yesterday", now) == "<unknown>"


def test_labels_are_sorted() -> None:
    assert label_text({"b": "2", "a": "1"}) == "a=1,b=2"
    assert label_text({}) == label_text(None) == "<none>"


def test_long_lists_are_clipped() -> None:
    assert clip(["a", "b", "c"], 3) == "a,b,c"
    assert clip(["a", "b", "c", "d", "e"], 3) == "a,b,c + 2 more..."
    assert clip([], 3, empty="<unset>") == "<unset>"
