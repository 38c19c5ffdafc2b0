# SPDX-License-Identifier: Apache-2.0
"""The service of global rate limits: which limit a request has, and how it is counted."""

from __future__ import annotations

import re

import pytest

from meshbox.images import find
from meshbox.images.ratelimit.config import Config
from meshbox.images.ratelimit.log import Log
from meshbox.images.ratelimit.messages import MOST_UINT32, OK, OVER_LIMIT, UNITS, Asked, Descriptor, Status
from meshbox.images.ratelimit.service import RefusedError

from .rate_limits import NOW, SHOP, Played, limit_of


@pytest.mark.parametrize("reference", ["envoyproxy/ratelimit:9d8d70a8", "docker.io/envoyproxy/ratelimit:30a4ce1a"])
def test_the_image_of_istios_sample_is_known(reference: str) -> None:
    image = find(reference)
    assert image is not None
    assert image.command_line(["/bin/ratelimit"], []) == ("/bin/ratelimit",)
    assert "ratelimit" in image.programs


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([("PATH", "/page")], "shop.PATH_/page 1/MINUTE"),
        ([("PATH", "/page/2")], "shop.PATH 100/DAY"),
        ([("PATH", "/api/1")], "shop.PATH_/api/* 10/HOUR"),
        ([("user", "free")], None),
        ([("user", "else")], None),
        ([("user", "free"), ("PATH", "/bigger")], "shop.user_free.PATH_/big* 2/YEAR"),
        ([("user", "free"), ("PATH", "/x")], "shop.user_free.PATH_/x 7/SECOND"),
        # It has to be as deep as the configuration.
        ([("PATH", "/page"), ("user", "free")], None),
        ([("user", "free"), ("PATH", "/x"), ("more", "")], None),
        ([], None),
    ],
)
def test_the_most_specific_descriptor_of_the_same_depth_is_the_limit(
    entries: list[tuple[str, str]], expected: str | None
) -> None:
    assert limit_of(Config([("config.yaml", SHOP)]), *entries) == expected


def test_a_limit_of_envoys_own_configuration_comes_before_the_files() -> None:
    config = Config([("a", SHOP)])
    found = config.limit("shop", Descriptor((("PATH", "/page"), ("k", "")), limit=(5, "WEEK")))
    assert found is not None
    assert (found.key, found.requests, found.unit) == ("shop.PATH_/page.k", 5, UNITS["WEEK"])
    assert config.limit("other", Descriptor((("PATH", "/page"),), limit=(5, "WEEK"))) is None


def test_what_is_over_the_limit_is_refused_until_the_window_ends() -> None:
    played = Played()
    current = (1, UNITS["MINUTE"], "")
    assert played.status(PATH="/page") == Status(OK, current, 0, 40)
    assert played.status(PATH="/page") == Status(OVER_LIMIT, current, 0, 40)
    played.now += 39
    assert played.status(PATH="/page") == Status(OVER_LIMIT, current, 0, 1)
    played.now += 1
    assert played.status(PATH="/page") == Status(OK, current, 0, 60)
    assert set(played.store.counts) == {"shop_PATH_/page_1699999980", "shop_PATH_/page_1700000040"}
    # A key is kept for its window, and up to five minutes longer, so that not all go at once.
    assert all(60 <= seconds < 360 for seconds in played.store.kept.values())


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [
        *(("second", 1), ("minute", 60), ("hour", 3600), ("day", 86400), ("week", 604800)),
        *(("month", 30 * 86400), ("year", 365 * 86400)),
    ],
)
def test_windows_of_all_units_begin_at_multiples_of_them(unit: str, seconds: int) -> None:
    text = f"domain: shop\ndescriptors: [{{key: k, rate_limit: {{unit: {unit}, requests_per_unit: 2}}}}]"
    played = Played(text, CACHE_KEY_PREFIX="p:", EXPIRATION_JITTER_MAX_SECONDS="0")
    found = played.status(k="v")
    assert (found.remaining, found.reset) == (1, seconds - NOW % seconds)
    assert played.store.kept == {f"p:shop_k_v_{NOW - NOW % seconds}": seconds}


def test_a_request_is_over_the_limit_if_any_of_its_descriptors_is() -> None:
    played = Played()
    assert played.ask({"PATH": "/page"}, {"PATH": "/other"}).code == OK
    answer = played.ask({"PATH": "/page"}, {"PATH": "/other"}, {"nothing": "x"})
    assert (answer.code, [one.code for one in answer.statuses]) == (OVER_LIMIT, [OVER_LIMIT, OK, OK])
    assert [one.remaining for one in answer.statuses] == [0, 98, 0]
    assert answer.statuses[2].limit is None


def test_hits_count_as_many_as_the_request_says() -> None:
    played = Played()
    assert [played.ask({"burst": "x"}, hits=2).statuses[0].remaining for _ in range(2)] == [1, 0]
    assert played.store.counts["shop_burst_x_1699999980"] == 4
    found = played.service.should_rate_limit(Asked("shop", (Descriptor((("burst", "y"),), hits=0),), 5))
    assert found.statuses[0].remaining == 3
    counts = {name.rpartition(".")[2]: number for name, number in played.counted().items() if "burst" in name}
    # Of the two hits that came last one was within the limit, and near it.
    assert counts == {"total_hits": 4, "over_limit": 1, "near_limit": 1, "within_limit": 2}


def test_what_is_unlimited_is_not_counted() -> None:
    played = Played()
    assert played.status(user="paying") == Status(OK, None, MOST_UINT32)
    assert played.store.counts == {}


def test_what_is_tried_only_is_let_through() -> None:
    played = Played()
    assert [played.ask({"user": "tried"}).code for _ in range(3)] == [OK] * 3
    key = "rate_limit.shop.user_tried."
    assert {name: played.counted()[key + name] for name in ("over_limit", "shadow_mode")} == {
        "over_limit": 2,
        "shadow_mode": 2,
    }
    whole = Played(SHADOW_MODE="true")
    assert [whole.ask({"PATH": "/page"}).code for _ in range(2)] == [OK, OK]
    assert whole.ask({"PATH": "/page"}).statuses[0].code == OVER_LIMIT
    assert whole.counted()["global_shadow_mode"] == 2


def test_a_limit_that_another_replaces_does_not_count() -> None:
    played = Played()
    answer = played.ask({"PATH": "/api/1"}, {"burst": "x"})
    assert [one.limit and one.limit[0] for one in answer.statuses] == [None, 3]
    assert set(played.store.counts) == {"shop_burst_x_1699999980"}
    assert played.status(PATH="/api/1").limit == (10, UNITS["HOUR"], "api")


def test_headers_tell_of_the_nearest_limit_if_they_are_asked_for() -> None:
    played = Played(LIMIT_RESPONSE_HEADERS_ENABLED="1", LIMIT_RESET_HEADER="x-reset")
    answer = played.ask({"PATH": "/other"}, {"burst": "x"})
    assert answer.headers == (("RateLimit-Limit", "3"), ("RateLimit-Remaining", "2"), ("x-reset", "40"))
    assert Played().ask({"burst": "x"}).headers == ()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked("", (Descriptor((("a", "b"),)),)), "rate limit domain must not be empty"),
        (Asked("shop"), "rate limit descriptor list must not be empty"),
    ],
)
def test_requests_that_ask_nothing_are_refused(asked: Asked, words: str) -> None:
    played = Played()
    with pytest.raises(RefusedError, match=words):
        played.service.should_rate_limit(asked)
    assert played.counted()["call.should_rate_limit.service_error"] == 1


def test_without_redis_nothing_is_decided() -> None:
    played = Played()
    played.store.down = "dial tcp 10.1.2.3:6379: connect: connection refused"
    with pytest.raises(RefusedError, match=re.escape(played.store.down)):
        played.status(PATH="/page")
    assert played.counted()["call.should_rate_limit.redis_error"] == 1


def test_limits_stay_where_new_ones_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    played = Played(SHOP, LOG_LEVEL="error")
    played.service._log = Log("error")
    played.service.load([("config.yaml", "domain: shop\ndescriptors: [{key: a, rate_limit: {unit: fortnight}}]")])
    said = "level=error msg=\"Error loading new configuration: config.yaml: invalid rate limit unit 'fortnight'\""
    assert said in capsys.readouterr().err
    assert played.status(PATH="/page").limit == (1, UNITS["MINUTE"], "")
    assert {name: number for name, number in played.counted().items() if name.startswith("config")} == {
        "config_load_success": 1,
        "config_load_error": 1,
    }
    never = Played("domain: ''")
    with pytest.raises(RefusedError, match="no rate limit configuration loaded"):
        never.status(a="b")
