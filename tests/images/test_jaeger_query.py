# SPDX-License-Identifier: Apache-2.0
"""Jaeger's query API: what its parameters mean, and how those are refused that mean nothing."""

from __future__ import annotations

import time

import pytest

from meshbox.images.jaeger import query
from meshbox.images.jaeger.store import TraceStore
from tests.images.test_jaeger import page_view, zipkin


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("", 0),
        ("100ms", 100_000),
        ("1.2s", 1_200_000),
        ("1m30s", 90_000_000),
        ("5us", 5),
        ("5µs", 5),
        ("1h", 3_600_000_000),
    ],
)
def test_durations_are_gos(text, microseconds):
    assert query.duration(text) == microseconds


SERVICE = {"service": ["a"]}


@pytest.mark.parametrize(
    ("path", "values", "words"),
    [
        ("traces", {}, "parameter 'service' is required"),
        ("operations", {}, "parameter 'service' is required"),
        ("traces", {**SERVICE, "limit": ["many"]}, 'strconv.ParseInt: parsing "many": invalid syntax'),
        ("traces", {**SERVICE, "limit": ["3000000000"]}, 'strconv.ParseInt: parsing "3000000000": value out of range'),
        (
            "traces",
            {**SERVICE, "start": ["now"]},
            "unable to parse param 'start': strconv.ParseInt: parsing \"now\": invalid syntax",
        ),
        (
            "traces",
            {**SERVICE, "minDuration": ["fast"]},
            "unable to parse param 'minDuration': time: invalid duration \"fast\"",
        ),
        (
            "traces",
            {**SERVICE, "maxDuration": ["5"]},
            "unable to parse param 'maxDuration': time: missing unit in duration \"5\"",
        ),
        (
            "traces",
            {**SERVICE, "minDuration": ["2s"], "maxDuration": ["1s"]},
            "'maxDuration' should be greater than 'minDuration'",
        ),
        ("traces", {**SERVICE, "tag": ["a"]}, "malformed 'tag' parameter, expecting key:value, received: a"),
        (
            "traces",
            {**SERVICE, "tags": ["[]"]},
            "malformed 'tags' parameter, cannot unmarshal JSON: "
            "json: cannot unmarshal array into Go value of type map[string]string",
        ),
        (
            "traces",
            {**SERVICE, "tags": ['{"http.status_code": 500}']},
            "malformed 'tags' parameter, cannot unmarshal JSON: "
            "json: cannot unmarshal number into Go value of type string",
        ),
        (
            "traces",
            {**SERVICE, "tags": ["error=true"]},
            "malformed 'tags' parameter, cannot unmarshal JSON: invalid character 'e' looking for beginning of value",
        ),
        (
            "traces",
            {"traceID": ["xyz"]},
            'cannot parse traceID param: strconv.ParseUint: parsing "xyz": invalid syntax',
        ),
        (
            "traces/xyz",
            {},
            "unable to parse param 'traceID': strconv.ParseUint: parsing \"xyz\": invalid syntax",
        ),
        (
            "traces/" + "a" * 33,
            {},
            "unable to parse param 'traceID': TraceID cannot be longer than 32 hex characters: " + "a" * 33,
        ),
        (
            "dependencies",
            {"endTs": ["now"]},
            "unable to parse param 'endTs': strconv.ParseInt: parsing \"now\": invalid syntax",
        ),
    ],
)
def test_a_bad_parameter_is_refused_in_jaegers_words(path, values, words):
    code, body = query.answer(TraceStore(), path, values)
    assert code == 400
    assert body == {"data": None, "total": 0, "limit": 0, "offset": 0, "errors": [{"code": 400, "msg": words}]}


def test_a_search_goes_back_two_days_unless_it_says_more():
    store = TraceStore()
    now = int(time.time() * 1e6)
    hour = 3600 * 1_000_000
    for trace, age in ((1, hour), (2, 47 * hour), (3, 49 * hour)):
        store.add([zipkin(trace, timestamp=now - age)])
    asked = lambda **given: [  # noqa: E731
        int(one["traceID"], 16)
        for one in query.answer(store, "traces", {"service": ["productpage.bookinfo"], **given})[1]["data"]
    ]
    assert asked() == [1, 2]
    # Jaeger's own pages send a start beside it.
    assert asked(lookback=["1h"]) == [1, 2]
    assert asked(start=["1"]) == [1, 2, 3]
    assert asked(limit=["0"]) == [1, 2]
    assert asked(limit=["1"]) == [1]


def test_traces_by_their_ids_and_which_are_not_there():
    store = TraceStore()
    store.add(page_view(1))
    _, body = query.answer(store, "traces", {"traceID": [f"{1:032X}", "ff"]})
    assert [len(one["spans"]) for one in body["data"]] == [4]
    assert body["errors"] == [{"msg": "trace not found", "traceID": "ff"}]
