# SPDX-License-Identifier: Apache-2.0
"""Durations mean what Go, Prometheus and protobuf mean by them."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
from decimal import Decimal

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.ground.duration import from_go, from_prometheus, to_go, to_prometheus, to_protobuf

from .kubectl import KUBECTL

MOST = 2**63 - 1
HOUR = 3600 * 10**9


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        *(("0", 0), ("+0", 0), ("-0", 0), ("0s", 0), ("5s", 5 * 10**9), ("1h2m3.5s", HOUR + 123_500_000_000)),
        *(("-1.5h", -3 * HOUR // 2), ("+1m", 60 * 10**9), (".5s", 5 * 10**8), ("1.s", 10**9), ("300ms", 3 * 10**8)),
        *(("1us", 1000), ("1µs", 1000), ("1μs", 1000), ("7ns", 7), ("1.9ns", 1), ("1m1h1m", HOUR + 120 * 10**9)),
        *(
            ("0.3333333333333333333h", 20 * 60 * 10**9),
            ("9223372036854775807ns", MOST),
            ("0.100000000000000000000h", 360 * 10**9),
        ),
        *(
            ("-9223372036854775808ns", -MOST - 1),
            ("00000000000000000000000007s", 7 * 10**9),
            ("9007199254740993ns", 2**53 + 1),
        ),
        *(("0." + "0" * 5000 + "1h", 0), ("0" * 5000 + "1s", 10**9)),
        # Of a fraction Go reads as many digits as an int64 holds, and rounds what floats make of them.
        *(("0.9224132377219443992717h", 3_320_687_655_799), ("0.8872042691224999564h", 3_193_935_368_841)),
    ],
)
def test_durations_of_go(text: str, nanoseconds: int) -> None:
    assert from_go(text) == nanoseconds


BAD = {
    "": 'time: invalid duration ""',
    ".": 'time: invalid duration "."',
    "+-5s": 'time: invalid duration "+-5s"',
    "µs": r'time: invalid duration "\xc2\xb5s"',
    "5": 'time: missing unit in duration "5"',
    "1..s": 'time: missing unit in duration "1..s"',
    "1d": 'time: unknown unit "d" in duration "1d"',
    '1"s': r'time: unknown unit "\"s" in duration "1\"s"',
    "1\\s": r'time: unknown unit "\\s" in duration "1\\s"',
    "1s ": 'time: unknown unit "s " in duration "1s "',
    "1e3s": 'time: unknown unit "e" in duration "1e3s"',
    "3000000h": 'time: invalid duration "3000000h"',
    "9223372036854775808ns": 'time: invalid duration "9223372036854775808ns"',
    "-9223372036854775809ns": 'time: invalid duration "-9223372036854775809ns"',
    "-99999999999999999999ns": 'time: invalid duration "-99999999999999999999ns"',
    "٣s": r'time: invalid duration "\xd9\xa3s"',
}


@pytest.mark.parametrize(("text", "words"), BAD.items())
def test_what_is_no_duration_of_go_is_told_as_kubectl_tells_it(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        from_go(text)
    command = [KUBECTL, "wait", "pod/x", "--for=delete", f"--timeout={text}", "--server=http://127.0.0.1:1"]
    env = {**os.environ, "KUBECONFIG": os.devnull}
    said = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False).stderr
    assert said.splitlines()[0].endswith(words)


def test_endless_numbers_are_out_of_range() -> None:
    for text in ("9" * 5000 + "s", "9" * 5000 + "ns", "1000h" * 3000):
        with pytest.raises(ValueError, match="time: invalid duration"):
            from_go(text)


def test_what_is_no_character_is_told_all_the_same() -> None:
    with pytest.raises(ValueError, match=r"^time: unknown unit .*x3f.* in duration"):
        from_go("1\ud800")


@given(st.integers(-MOST - 1, MOST))
def test_what_go_prints_is_read_back(nanoseconds: int) -> None:
    assert from_go(to_go(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        *((0, "0s"), (1, "1ns"), (1500, "1.5µs"), (250 * 10**6, "250ms"), (10 * 10**9, "10s"), (80 * 10**9, "1m20s")),
        *((999, "999ns"), (1000, "1µs"), (10**6 - 1, "999.999µs"), (10**6, "1ms"), (5 * 10**8, "500ms")),
        *((10**9 - 1, "999.999999ms"), (10**9, "1s"), (-(10**9), "-1s"), (5 * 10**9, "5s")),
        *((300 * 10**9, "5m0s"), (HOUR + 5 * 10**8, "1h0m0.5s"), (-1, "-1ns"), (-90 * 10**9, "-1m30s")),
    ],
)
def test_how_go_prints(nanoseconds: int, text: str) -> None:
    assert to_go(nanoseconds) == text


@given(st.integers(-MOST - 1, MOST))
def test_protobufs_form_is_seconds_with_nine_decimals_at_most(nanoseconds: int) -> None:
    text = to_protobuf(nanoseconds)
    assert re.fullmatch(r"-?[0-9]+(\.[0-9]{0,8}[1-9])?s", text)
    assert Decimal(text[:-1]) * 10**9 == nanoseconds
    assert [to_protobuf(one) for one in (300_000_000, 0, 1, -1)] == ["0.3s", "0s", "0.000000001s", "-0.000000001s"]


@given(st.lists(st.none() | st.integers(0, 99), min_size=7, max_size=7).filter(any))
def test_prometheus_own_reader_agrees(numbers: list[int | None]) -> None:
    units = ("y", "w", "d", "h", "m", "s", "ms")
    text = "".join(f"{number}{unit}" for number, unit in zip(numbers, units, strict=True) if number is not None)
    selector = promql_parser.parse(f"up[{text}]")
    assert isinstance(selector, promql_parser.MatrixSelector)
    assert datetime.timedelta(milliseconds=from_prometheus(text)) == selector.range


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("0", 0), ("0s", 0), ("05m", 300_000), ("292y", 292 * 31_536_000_000), ("9223372036854ms", MOST // 10**6)],
)
def test_durations_of_prometheus(text: str, milliseconds: int) -> None:
    assert from_prometheus(text) == milliseconds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty duration string"),
        *(
            (bad, f'not a valid duration string: "{bad}"')
            for bad in ("30m1h", "1m1m", "1.5m", "5", "-5m", "1d1w", "5M", "5m ")
        ),
        *(
            (far, "duration out of range")
            for far in ("300y", "9223372036855ms", "9223372036854775808ms", "9" * 5000 + "y")
        ),
    ],
)
def test_what_is_no_duration_of_prometheus(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        from_prometheus(text)


@given(st.integers(1, 9 * 10**12))
def test_what_is_written_for_prometheus_is_read_back(milliseconds: int) -> None:
    assert from_prometheus(to_prometheus(milliseconds)) == milliseconds
    assert [to_prometheus(one) for one in (500, 90_000, 7_200_000)] == ["500ms", "90s", "2h"]
