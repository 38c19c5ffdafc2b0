# SPDX-License-Identifier: Apache-2.0
"""The service of global rate limits as a program: its configuration, its settings, what it answers and tells."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from labkit.ground.web import Request, Response
from meshbox.images.grpc import client, wire
from meshbox.images.grpc import server as grpc
from meshbox.images.ratelimit import server
from meshbox.images.ratelimit.config import Config, ConfigError
from meshbox.images.ratelimit.log import Log
from meshbox.images.ratelimit.messages import OK, OVER_LIMIT, Asked, Descriptor
from meshbox.images.ratelimit.settings import Settings, SettingsError

from .rate_limits import NOW, Played, limit_of


def limited(block: str, more: str = "") -> str:
    return f"domain: d\ndescriptors:\n- key: a\n  value: b\n  rate_limit:\n    {block}\n{more}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "config file cannot have empty domain"),
        ("domain:", "config file cannot have empty domain"),
        ("domain: d\ndescriptors: [{value: b}]", "descriptor has empty key"),
        ("domain: d\ndescriptors: [{key: a, value: b}, {key: a_b}]", "duplicate descriptor composite key 'd.a_b'"),
        (
            "domain: d\ndescriptors: [{key: a, descriptors: [{key: b}, {key: b}]}]",
            "duplicate descriptor composite key 'd.a.b'",
        ),
        (limited("unit: foo"), "invalid rate limit unit 'foo'"),
        (limited("requests_per_unit: 1"), "invalid rate limit unit ''"),
        (limited("{unlimited: true, unit: day}"), "should not specify rate limit unit when unlimited"),
        (limited("{unit: day, replaces: [{}]}"), "should not have an empty replaces entry"),
        (
            limited("{unit: day, name: x, replaces: [{name: x}]}"),
            "replaces should not contain name of same descriptor",
        ),
        (limited("requestsperunit: 1"), "config error, unknown key 'requestsperunit'"),
        ("domain: d\n0.25: x", "config error, key is not of type string: 0.25"),
        ("domain: d\ndescriptors: [a]", "config error, yaml file contains list of type other than map: a"),
        (limited("{unit: day, requests_per_unit: 1.5}"), "error checking config"),
        ("domain: d\nkey: 'a", "error loading config file: yaml: line 2: found unexpected end of stream"),
        (
            "only some words",
            "error loading config file: yaml: unmarshal errors:\n"
            "  line 1: cannot unmarshal !!str `only so...` into map[interface {}]interface {}",
        ),
        (
            limited("{unit: day, requests_per_unit: many}", "  shadow_mode: 'yes'\n"),
            "error loading config file: yaml: unmarshal errors:\n"
            "  line 6: cannot unmarshal !!str `many` into uint32\n  line 7: cannot unmarshal !!str `yes` into bool",
        ),
        (
            limited("{unit: day, requests_per_unit: -1}"),
            "error loading config file: yaml: unmarshal errors:\n  line 6: cannot unmarshal !!int `-1` into uint32",
        ),
        (
            "domain: d\ndescriptors: {key: a}",
            "error loading config file: yaml: unmarshal errors:\n"
            "  line 2: cannot unmarshal !!map into []config.YamlDescriptor",
        ),
    ],
)
def test_bad_configurations_are_refused_in_the_programs_words(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Config([("config.yaml", text)])
    assert str(refused.value) == f"config.yaml: {words}"


def test_several_files_may_share_a_domain_only_if_they_are_told_so() -> None:
    files = [(f"{key}.yaml", f"domain: d\ndescriptors: [{{key: {key}, rate_limit: {{unit: day}}}}]") for key in "ab"]
    with pytest.raises(ConfigError, match=re.escape("b.yaml: duplicate domain 'd' in config file")):
        Config(files)
    assert [one.key for one in Config(files, merge=True).limits()] == ["d.a", "d.b"]


def test_values_are_the_texts_that_are_written() -> None:
    text = "domain: d\nx: &x {unit: day, requests_per_unit: 0x10}\n".replace("x: &x", "name: &x")
    text += "descriptors: [{key: 007, value: 010, rate_limit: *x}, {key: k, value: yes, rate_limit: {<<: *x}}]"
    found = Config([("a", text)])
    assert limit_of(found, ("007", "010"), domain="d") == "d.007_010 16/DAY"
    assert limit_of(found, ("k", "yes"), domain="d") == "d.k_yes 16/DAY"


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"PORT": "web"}, "envconfig.Process: assigning PORT: converting 'web' to type int"),
        ({"SHADOW_MODE": "maybe"}, "envconfig.Process: assigning SHADOW_MODE: converting 'maybe' to type bool"),
        ({"GRPC_PORT": "70000"}, "listen tcp: address 70000: invalid port"),
        ({"BACKEND_TYPE": "memcache"}, "BACKEND_TYPE=memcache is not played by the workshop's stand-in"),
        ({"REDIS_TYPE": "CLUSTER"}, "REDIS_TYPE=CLUSTER is not played by the workshop's stand-in"),
        ({"CONFIG_TYPE": "GRPC_XDS_SOTW"}, "CONFIG_TYPE=GRPC_XDS_SOTW is not played by the workshop's stand-in"),
    ],
)
def test_settings_that_are_not_played_are_refused(env: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(words)):
        Settings(env)


def test_what_is_left_out_is_said() -> None:
    asked = Settings({"USE_STATSD": "true", "USE_PROMETHEUS": "false", "BACKEND_TYPE": "redis", "REDIS_TYPE": "SINGLE"})
    assert list(asked.left_out()) == [
        "USE_STATSD=true is not played by the workshop's stand-in: statistics are at /stats only"
    ]


def entry(key: str, value: str) -> bytes:
    return wire.length(1, wire.text(1, key) + wire.text(2, value))


@pytest.fixture
def where() -> Iterator[str]:
    played = Played()
    listening = grpc.listen(0, server.methods(played.service, played.settings), "127.0.0.1")
    yield f"127.0.0.1:{listening.server_address[1]}"
    listening.shutdown()
    listening.server_close()


def test_envoy_is_answered_over_grpc(where: str) -> None:
    asked = wire.text(1, "shop") + wire.length(2, entry("PATH", "/page")) + wire.length(2, entry("PATH", "/api/2"))
    (first, second) = (client.call(where, server.SHOULD_RATE_LIMIT, asked) for _ in range(2))
    assert first[:2] == wire.number(1, OK)
    overall, *statuses = [value for _, value in wire.fields(second)]
    assert overall == OVER_LIMIT
    one, other = (list(wire.fields(status)) for status in statuses if isinstance(status, bytes))
    current = wire.number(1, 1) + wire.number(2, 2)
    assert one == [(1, OVER_LIMIT), (2, current), (4, wire.number(1, 40))]
    api = wire.number(1, 10) + wire.number(2, 3) + wire.text(3, "api")
    assert other == [(1, OK), (2, api), (3, 8), (4, wire.number(1, 3600 - NOW % 3600))]
    for message, code, words in (
        (b"", 2, "rate limit domain must not be empty"),
        (b"\x0a\x05abc", 13, "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data"),
    ):
        with pytest.raises(grpc.CallError) as refused:
            client.call(where, server.SHOULD_RATE_LIMIT, message)
        assert refused.value.code == code
        assert refused.value.words.startswith(words)
    assert client.call(where, server.HEALTH, b"") == wire.number(1, 1)


def test_what_envoy_says_of_one_descriptor_is_read() -> None:
    hits = wire.length(3, wire.number(1, 4))
    override = wire.length(2, wire.number(1, 9) + wire.number(2, 3))
    asked = Asked.read(wire.text(1, "d") + wire.length(2, entry("a", "") + override + hits) + wire.number(3, 6))
    assert asked == Asked("d", (Descriptor((("a", ""),), (9, "HOUR"), 4),), 6)
    negative = Asked.read(wire.length(2, hits + wire.number(4, 1)))
    assert negative.descriptors[0].hits == -4


def post(played: Played, body: object, **headers: str) -> Response:
    app = server.plain(played.service, played.settings, Log("panic"))
    return app(Request("POST", "/json", {"host": "ratelimit.shop:8080", **headers}, json.dumps(body).encode()))


def test_the_same_is_answered_as_json() -> None:
    played = Played()
    asked = {"domain": "shop", "descriptors": [{"entries": [{"key": "PATH", "value": "/page"}]}]}
    first, second = post(played, asked), post(played, {**asked, "hits_addend": 1})
    current = {"requestsPerUnit": 1, "unit": "MINUTE"}
    status = {"currentLimit": current, "durationUntilReset": "40s"}
    assert (first.status, second.status) == (200, 429)
    assert json.loads(str(first.body)) == {"overallCode": "OK", "statuses": [{"code": "OK", **status}]}
    over = {"overallCode": "OVER_LIMIT", "statuses": [{"code": "OVER_LIMIT", **status}]}
    assert json.loads(str(second.body)) == over
    for bad in ({"domain": ""}, {"domain": "shop", "nothing": 1}, [], {**asked, "hitsAddend": True}):
        refused = post(played, bad)
        assert (refused.status, refused.body) == (400, "Bad Request\n")
    assert post(played, asked, origin="http://ratelimit.shop:8080").status == 403


def test_health_and_debug_pages() -> None:
    played, empty = Played(), Played("", HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED="true")

    def get(app: Any, path: str) -> tuple[int, object]:
        found = app(Request("GET", path, {"host": "ratelimit:8080"}))
        return found.status, found.body

    health = [server.plain(one.service, one.settings, Log("panic")) for one in (played, empty)]
    assert [get(one, "/healthcheck") for one in health] == [(200, "OK"), (500, "")]
    assert get(health[0], "/nope")[0] == 404
    pages = server.debug(played.service)
    status, dump = get(pages, "/rlconfig")
    assert (status, str(dump).splitlines()[0]) == (
        200,
        "shop.PATH_/page: unit=MINUTE requests_per_unit=1, shadow_mode: false",
    )
    played.status(PATH="/page")
    assert "ratelimit.service.rate_limit.shop.PATH_/page.total_hits: 1\n" in str(get(pages, "/stats")[1])


def test_the_log_has_both_forms_and_its_levels(capsys: pytest.CaptureFixture[str]) -> None:
    Log("warn").info("nothing")
    Log("warn").warning('say "a" now')
    Log("debug", "json").debug("bare")
    text, line = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r'time="[-\dT:]+Z" level=warning msg="say \\"a\\" now"', text)
    assert (json.loads(line)["@message"], json.loads(line)["level"]) == ("bare", "debug")
    with pytest.raises(ValueError, match='not a valid logrus Level: "loud"'):
        Log("loud")
