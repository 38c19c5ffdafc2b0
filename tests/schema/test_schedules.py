# SPDX-License-Identifier: Apache-2.0
"""Schedules of CronJobs: what a Kubernetes 1.35.4 takes, and what it says of the rest."""

from __future__ import annotations

import pytest

from meshbox.api.builtin.schedules import problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("*/5 0-6,8 ? JAN-mar sun", ""),
        ("@hourly", ""),
        ("@every 1h30m", ""),
        ("TZ=UTC 0 0 * * *", ""),
        ("", "empty spec string"),
        ("@noon", "unrecognized descriptor: @noon"),
        ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("*/2/3 * * * *", "too many slashes: */2/3"),
        ("a * * * *", 'failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax'),
        ("* * * * MONDAY", 'failed to parse int from MONDAY: strconv.Atoi: parsing "MONDAY": invalid syntax'),
        ("-5 * * * *", 'failed to parse int from : strconv.Atoi: parsing "": invalid syntax'),
        ("30/10 * * * *", ""),
        ("50/5,61 * * * *", "end of range (61) above maximum (59): 61"),
    ],
)
def test_schedules(text: str, words: str) -> None:
    assert problem(text) == words
