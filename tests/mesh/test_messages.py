# SPDX-License-Identifier: Apache-2.0
"""Envoy's configuration in protobuf's form, byte by byte."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from meshbox.images.grpc import wire
from meshbox.mesh import messages
from meshbox.mesh.messages import MessageError, encoded

CORE = "envoy.config.core.v3."
ROUTE = "envoy.config.route.v3."
CLUSTER = "envoy.config.cluster.v3.Cluster"
CONSTANT = "google.api.expr.v1alpha1.Constant"
ANY = "google.protobuf.Any"
URL = "type.googleapis.com/"
NOT_A_NUMBER = bytes.fromhex("000000000000f87f")


def refused(kind: str, value: Any) -> str:
    with pytest.raises(MessageError) as caught:
        encoded(kind, value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        # A text: its number and 2, its length, itself.
        (f"{CORE}Node", {"id": "ab"}, b"\x0a\x02ab"),
        (f"{CORE}Node", {"id": "é"}, b"\x0a\x02\xc3\xa9"),
        (f"{CORE}Node", {"id": "a" * 200}, b"\x0a\xc8\x01" + b"a" * 200),
        (f"{CORE}Node", {"id": "a" * 3000}, b"\x0a\xb8\x17" + b"a" * 3000),
        (f"{CORE}Node", {"id": ""}, b"\x0a\x00"),
        (f"{CORE}Node", {"client_features": ["a", "b"]}, b"\x52\x01a\x52\x01b"),
        # Whole numbers, seven bits a byte, and as texts.
        (f"{CORE}SocketAddress", {"port_value": 9080}, b"\x18\xf8\x46"),
        (f"{CORE}SocketAddress", {"port_value": "9080"}, b"\x18\xf8\x46"),
        (f"{CORE}SocketAddress", {"port_value": 80.0}, b"\x18\x50"),
        (f"{CORE}SocketAddress", {"port_value": "8e1"}, b"\x18\x50"),
        (f"{CORE}SocketAddress", {"port_value": 2**32 - 1}, b"\x18\xff\xff\xff\xff\x0f"),
        (f"{CORE}SocketAddress", {"port_value": 0}, b"\x18\x00"),
        (CONSTANT, {"int64_value": -1}, b"\x18" + b"\xff" * 9 + b"\x01"),
        (CONSTANT, {"int64_value": str(-(2**63))}, b"\x18" + b"\x80" * 9 + b"\x01"),
        (CONSTANT, {"uint64_value": 2**64 - 1}, b"\x20" + b"\xff" * 9 + b"\x01"),
        (CONSTANT, {"uint64_value": str(2**64 - 1)}, b"\x20" + b"\xff" * 9 + b"\x01"),
        # True, false.
        (f"{CORE}SocketAddress", {"ipv4_compat": True}, b"\x30\x01"),
        (f"{CORE}SocketAddress", {"ipv4_compat": False}, b"\x30\x00"),
        (f"{CORE}SocketAddress", {"ipv4_compat": "true"}, b"\x30\x01"),
        (f"{CORE}SocketAddress", {"ipv4_compat": "False"}, b"\x30\x00"),
        # Doubles and floats, the smallest byte first.
        ("envoy.type.v3.Percent", {"value": 1.5}, b"\x09" + bytes.fromhex("000000000000f83f")),
        ("envoy.type.v3.Percent", {"value": 3}, b"\x09" + bytes.fromhex("0000000000000840")),
        ("envoy.type.v3.Percent", {"value": "1.5"}, b"\x09" + bytes.fromhex("000000000000f83f")),
        ("envoy.type.v3.Percent", {"value": "-Infinity"}, b"\x09" + bytes.fromhex("000000000000f0ff")),
        ("envoy.type.v3.Percent", {"value": "NaN"}, b"\x09" + NOT_A_NUMBER),
        ("google.protobuf.FloatValue", 1.5, b"\x0d" + bytes.fromhex("0000c03f")),
        # Words of enums: in any case, and as their number or one of a later version.
        (f"{CORE}SocketAddress", {"protocol": "UDP"}, b"\x08\x01"),
        (f"{CORE}SocketAddress", {"protocol": "udp"}, b"\x08\x01"),
        (f"{CORE}SocketAddress", {"protocol": 1}, b"\x08\x01"),
        (f"{CORE}SocketAddress", {"protocol": "1"}, b"\x08\x01"),
        (f"{CORE}SocketAddress", {"protocol": 300}, b"\x08\xac\x02"),
        (f"{CORE}SocketAddress", {"protocol": -1}, b"\x08" + b"\xff" * 9 + b"\x01"),
        # Messages, lists of them and maps, whose entries are messages of 1 and 2.
        (f"{CORE}Address", {"socket_address": {"address": "h", "port_value": 1}}, b"\x0a\x05\x12\x01h\x18\x01"),
        (f"{CORE}Address", {"socket_address": {}}, b"\x0a\x00"),
        (f"{CORE}HeaderMap", {"headers": [{"key": "a"}, {}]}, b"\x0a\x03\x0a\x01a\x0a\x00"),
        ("xds.core.v3.ContextParams", {"params": {"a": "b"}}, b"\x0a\x06\x0a\x01a\x12\x01b"),
        ("xds.core.v3.ContextParams", {"params": {"a": None}}, b"\x0a\x03\x0a\x01a"),
        (
            "google.api.expr.v1alpha1.SourceInfo",
            {"positions": {"-1": 2}},
            b"\x22\x0d\x08" + b"\xff" * 9 + b"\x01\x10\x02",
        ),
        # One is as good as a list of one.
        (f"{CORE}Node", {"client_features": "a"}, b"\x52\x01a"),
        (f"{CORE}HeaderMap", {"headers": {"key": "a"}}, b"\x0a\x03\x0a\x01a"),
        # Nothing is nothing.
        (f"{CORE}Node", {}, b""),
        (f"{CORE}Node", {"id": None, "metadata": None, "client_features": None, "locality": None}, b""),
        (f"{CORE}Node", {"client_features": [], "dynamic_parameters": {}}, b""),
    ],
)
def test_the_kinds_of_fields(kind: str, value: Any, found: bytes) -> None:
    assert encoded(kind, value) == found


def test_names_in_camel_case() -> None:
    assert encoded(f"{CORE}SocketAddress", {"portValue": 1}) == b"\x18\x01"
    assert encoded("envoy.config.listener.v3.Listener", {"statPrefix": "a"}) == b"\xe2\x01\x01a"
    assert encoded(f"{CORE}SocketAddress", {"portValue": 1, "port_value": None}) == b"\x18\x01"
    assert encoded(f"{CORE}SocketAddress", {"port_value": 1, "portValue": None}) == b"\x18\x01"
    twice = "portValue: it is there as port_value too: leave out one of the two"
    assert refused(f"{CORE}SocketAddress", {"port_value": 1, "portValue": 2}) == twice
    assert refused(f"{CORE}SocketAddress", {"portValue": 2, "port_value": 1}) == twice


def test_of_some_fields_only_one_may_be_there() -> None:
    two = {"cluster": "a", "cluster_header": "b"}
    said = "{0}: cluster is there too: leave out one of the two"
    assert refused(f"{ROUTE}RouteAction", two) == said.format("cluster_header")
    assert refused(f"{ROUTE}RouteAction", {"cluster": "a", "clusterHeader": "b"}) == said.format("clusterHeader")
    assert refused(f"{ROUTE}Route", {"route": two}) == said.format("route.cluster_header")
    assert encoded(f"{ROUTE}RouteAction", {"cluster": "a", "cluster_header": None}) == b"\x0a\x01a"
    # Of another such group, and of none.
    assert encoded(f"{ROUTE}RouteAction", {"cluster": "a", "host_rewrite_literal": "b", "prefix_rewrite": "c"}) == (
        b"\x0a\x01a\x32\x01b\x2a\x01c"
    )


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        ("Duration", "1s", b"\x08\x01"),
        ("Duration", "0s", b""),
        ("Duration", "1.5s", b"\x08\x01" + wire.number(2, 500_000_000)),
        ("Duration", "0.000000001s", b"\x10\x01"),
        ("Duration", "1.123456789s", b"\x08\x01" + wire.number(2, 123_456_789)),
        ("Duration", "-0.5s", wire.number(2, -500_000_000)),
        ("Duration", "-1.5s", wire.number(1, -1) + wire.number(2, -500_000_000)),
        ("Duration", "315576000000s", wire.number(1, 315_576_000_000)),
        ("Duration", {"seconds": 1, "nanos": 5}, b"\x08\x01\x10\x05"),
        ("Timestamp", "1970-01-01T00:00:01Z", b"\x08\x01"),
        ("Timestamp", "1970-01-01T01:00:01+01:00", b"\x08\x01"),
        ("Timestamp", "1970-01-01T00:00:00.123456789Z", wire.number(2, 123_456_789)),
        # The parts of a second count forward, before 1970 too.
        ("Timestamp", "1969-12-31T23:59:59.5Z", wire.number(1, -1) + wire.number(2, 500_000_000)),
        ("Timestamp", "9999-12-31T23:59:59.999999999Z", wire.number(1, 253_402_300_799) + wire.number(2, 999_999_999)),
        ("UInt32Value", 5, b"\x08\x05"),
        ("UInt32Value", "5", b"\x08\x05"),
        ("UInt32Value", 0, b"\x08\x00"),
        ("UInt32Value", {"value": 5}, b"\x08\x05"),
        ("UInt32Value", {}, b""),
        ("BoolValue", False, b"\x08\x00"),
        ("StringValue", "a", b"\x0a\x01a"),
        ("BytesValue", "YQ==", b"\x0a\x01a"),
        ("BytesValue", "YQ", b"\x0a\x01a"),
        ("BytesValue", "YWI=", b"\x0a\x02ab"),
        ("BytesValue", "+/+/", b"\x0a\x03\xfb\xff\xbf"),
        ("BytesValue", "-_-_", b"\x0a\x03\xfb\xff\xbf"),
        ("BytesValue", "", b"\x0a\x00"),
        ("Empty", {}, b""),
        ("Value", None, b"\x08\x00"),
        ("Value", True, b"\x20\x01"),
        ("Value", 1, b"\x11" + bytes.fromhex("000000000000f03f")),
        ("Value", "a", b"\x1a\x01a"),
        ("Value", [None], b"\x32\x04\x0a\x02\x08\x00"),
        ("Value", {}, b"\x2a\x00"),
        ("ListValue", ["a"], b"\x0a\x03\x1a\x01a"),
        ("Struct", {"a": "b"}, b"\x0a\x08\x0a\x01a\x12\x03\x1a\x01b"),
    ],
)
def test_what_has_a_form_of_its_own(kind: str, value: Any, found: bytes) -> None:
    assert encoded(f"google.protobuf.{kind}", value) == found


def test_null_is_a_value_where_any_json_is() -> None:
    assert encoded(f"{CORE}KeyValuePair", {"value": None}) == b"\x12\x02\x08\x00"
    assert encoded(f"{CORE}KeyValuePair", {"key": None}) == b""
    assert encoded(CONSTANT, {"null_value": None}) == b"\x08\x00"
    assert encoded(CONSTANT, {"nullValue": "NULL_VALUE"}) == b"\x08\x00"
    assert refused(CONSTANT, {"null_value": None, "bool_value": True}) == (
        "bool_value: null_value is there too: leave out one of the two"
    )


@pytest.mark.parametrize(
    ("value", "inside"),
    [
        ({"@type": f"{URL}{CORE}Pipe", "path": "a"}, b"\x0a\x01a"),
        ({"path": "a", "@type": f"{URL}{CORE}Pipe"}, b"\x0a\x01a"),
        ({"@type": f"{URL}{CORE}Pipe"}, b""),
        ({"@type": f"{URL}google.protobuf.Duration", "value": "1s"}, b"\x08\x01"),
        ({"@type": f"{URL}google.protobuf.Duration"}, b""),
        ({"@type": f"{URL}google.protobuf.Struct", "value": None}, b""),
        ({"@type": f"{URL}google.protobuf.Value", "value": None}, b"\x08\x00"),
        ({"@type": f"{URL}google.protobuf.Empty"}, b""),
        ({"@type": f"{URL}google.protobuf.Empty", "value": {}}, b""),
        (
            {"@type": f"{URL}{ANY}", "value": {"@type": f"{URL}{CORE}Pipe", "mode": 1}},
            wire.text(1, f"{URL}{CORE}Pipe") + b"\x12\x02\x10\x01",
        ),
    ],
)
def test_an_any_is_its_type_and_its_bytes(value: dict[str, Any], inside: bytes) -> None:
    given = dict(value)
    assert encoded(ANY, value) == wire.text(1, value["@type"]) + wire.length(2, inside)
    assert value == given


def test_an_any_of_nothing() -> None:
    assert encoded(ANY, {}) == b""


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("no.Such", {}, 'no message "no.Such" is known here'),
        (CLUSTER, [], "a list is no object"),
        (CLUSTER, None, "null is no object"),
        (CLUSTER, {"nam": "a"}, f"nam: {CLUSTER} has no such field"),
        (CLUSTER, {"nam": None}, f"nam: {CLUSTER} has no such field"),
        (CLUSTER, {1: "a"}, f"1: {CLUSTER} has no such field"),
        (CLUSTER, {"name": 5}, "name: 5 is no text"),
        (CLUSTER, {"name": {"a": 1}}, "name: an object is no text"),
        (CLUSTER, {"name": "\ud800"}, 'name: "\\ud800" has half a character'),
        (CLUSTER, {"name": b"a"}, "name: this is no text"),
        (CLUSTER, {"type": "STATICS"}, 'type: "STATICS" is none of STATIC, STRICT_DNS, LOGICAL_DNS, EDS, ORIGINAL_DST'),
        (CLUSTER, {"type": True}, "type: true is no int32"),
        (CLUSTER, {"type": 2**31}, "type: 2147483648 is no int32"),
        (CLUSTER, {"connect_timeout": 5}, 'connect_timeout: 5 is no duration, such as "1.5s"'),
        (CLUSTER, {"connect_timeout": "5"}, 'connect_timeout: "5" is no duration, such as "1.5s"'),
        (CLUSTER, {"filters": [{"name": "a"}, None]}, "filters: null is no object"),
        (
            CLUSTER,
            {"load_assignment": {"endpoints": [{"priority": -1}]}},
            "load_assignment.endpoints.priority: -1 is no uint32",
        ),
        (
            CLUSTER,
            {"typedExtensionProtocolOptions": {"a": {"@type": f"{URL}{CORE}Pipe", "mode": "x"}}},
            'typedExtensionProtocolOptions.a.mode: "x" is no uint32',
        ),
        (f"{CORE}SocketAddress", {"port_value": True}, "port_value: true is no uint32"),
        (f"{CORE}SocketAddress", {"port_value": 1.5}, "port_value: 1.5 is no uint32"),
        (f"{CORE}SocketAddress", {"port_value": 2**32}, "port_value: 4294967296 is no uint32"),
        (f"{CORE}SocketAddress", {"port_value": 10**5000}, "port_value: this is no uint32"),
        (f"{CORE}SocketAddress", {"port_value": "9" * 5000}, f'port_value: "{"9" * 76}... is no uint32'),
        (f"{CORE}SocketAddress", {"port_value": "1_0"}, 'port_value: "1_0" is no uint32'),
        (f"{CORE}SocketAddress", {"port_value": " 1"}, 'port_value: " 1" is no uint32'),
        (f"{CORE}SocketAddress", {"port_value": "٣"}, 'port_value: "\\u0663" is no uint32'),
        (f"{CORE}SocketAddress", {"port_value": math.inf}, "port_value: Infinity is no uint32"),
        (f"{CORE}SocketAddress", {"ipv4_compat": 1}, "ipv4_compat: 1 is neither true nor false"),
        (f"{CORE}SocketAddress", {"ipv4_compat": "on"}, 'ipv4_compat: "on" is neither true nor false'),
        # A double does not hold it: another number would go out.
        (CONSTANT, {"int64_value": "9007199254740993.0"}, 'int64_value: "9007199254740993.0" is no int64'),
        ("envoy.type.v3.Percent", {"value": math.nan}, "value: NaN is no double"),
        ("envoy.type.v3.Percent", {"value": True}, "value: true is no double"),
        ("envoy.type.v3.Percent", {"value": "1,5"}, 'value: "1,5" is no double'),
        ("envoy.type.v3.Percent", {"value": 10**400}, f"value: 1{'0' * 76}... is no double"),
        ("google.protobuf.FloatValue", 1e39, "1e+39 is no float"),
        ("google.protobuf.BytesValue", "Y", '"Y" is no base64'),
        ("google.protobuf.BytesValue", "YQ=", '"YQ=" is no base64'),
        ("google.protobuf.BytesValue", "Y$Q=", '"Y$Q=" is no base64'),
        ("google.protobuf.Duration", "1.0000000001s", '"1.0000000001s" is no duration, such as "1.5s"'),
        ("google.protobuf.Duration", "315576000001s", '"315576000001s" is no duration, such as "1.5s"'),
        ("google.protobuf.Duration", "1ms", '"1ms" is no duration, such as "1.5s"'),
        ("google.protobuf.Duration", "٣s", '"\\u0663s" is no duration, such as "1.5s"'),
        ("google.protobuf.Duration", "s", '"s" is no duration, such as "1.5s"'),
        ("google.protobuf.Timestamp", "2025-01-31", '"2025-01-31" is no time, such as "2025-01-31T12:00:00Z"'),
        (
            "google.protobuf.Timestamp",
            "2025-02-31T12:00:00Z",
            '"2025-02-31T12:00:00Z" is no time, such as "2025-01-31T12:00:00Z"',
        ),
        ("google.protobuf.Empty", {"a": 1}, "an object is not empty"),
        ("google.protobuf.Struct", [], "a list is no object"),
        ("google.protobuf.Struct", {"a": 10**400}, f"1{'0' * 76}... is no double"),
        ("google.protobuf.Struct", {"\ud800": 1}, '"\\ud800" has half a character'),
        ("google.protobuf.ListValue", {}, "an object is no list"),
        (ANY, {"a": 1}, '"@type" is missing'),
        (ANY, {"@type": None}, '"@type" is missing'),
        (ANY, {"@type": f"{URL}no.Such"}, 'no message "no.Such" is known here'),
        (ANY, {"@type": f"\ud800/{CORE}Pipe"}, f'"\\ud800/{CORE}Pipe" has half a character'),
        (
            ANY,
            {"@type": f"{URL}google.protobuf.Duration", "value": "1s", "a": 1},
            'a: google.protobuf.Duration is under "value", and nothing is beside it',
        ),
        (ANY, {"@type": f"{URL}{ANY}", "value": None}, "null is no object"),
    ],
)
def test_what_is_no_message_is_said_with_its_place(kind: str, value: Any, said: str) -> None:
    assert refused(kind, value) == said


def test_an_error_says_its_place_in_parts() -> None:
    with pytest.raises(MessageError) as caught:
        encoded(f"{ROUTE}RouteConfiguration", {"virtual_hosts": [{"routes": [{"match": {"prefix": 1}}]}]})
    assert caught.value.path == ("virtual_hosts", "routes", "match", "prefix")
    assert caught.value.reason == "1 is no text"


def test_what_is_too_deep_is_no_message() -> None:
    value: Any = {}
    rules: Any = {}
    for _ in range(5_000):
        value, rules = {"a": [value]}, {"and_ids": {"ids": [rules]}}
    assert refused("google.protobuf.Struct", value) == "there is too much within each other"
    assert refused("envoy.config.rbac.v3.Principal", rules) == "there is too much within each other"


def test_fifty_within_each_other_are_a_message() -> None:
    rules: Any = {"any": True}
    found = b"\x18\x01"
    for _ in range(49):
        rules, found = {"not_id": rules}, wire.length(8, found)
    assert encoded("envoy.config.rbac.v3.Principal", rules) == found


def test_a_struct_is_read_as_it_was_written() -> None:
    value = {"a": "é", "b": [1.5, None, True, False, [], {"": "x"}], "c": {"d": {}}, "e": -2.0, "f": None, "g": ""}
    assert wire.read_struct(encoded("google.protobuf.Struct", value)) == value
    assert json.dumps(wire.read_struct(encoded("google.protobuf.Struct", value))) == json.dumps(value)


def test_a_struct_is_read_as_deep_as_other_programs_read_it() -> None:
    value: Any = "x"
    for _ in range(15):
        value = {"a": [value]}
    assert wire.read_struct(encoded("google.protobuf.Struct", {"b": value})) == {"b": value}
    deeper = {"b": {"a": [[value]]}}
    with pytest.raises(wire.WireError, match="too much within each other"):
        wire.read_struct(encoded("google.protobuf.Struct", deeper))


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",
        wire.length(1, wire.length(1, b"\xff") + wire.length(2, b"")),
        wire.length(1, wire.length(2, wire.length(3, b"\xff"))),
        wire.length(1, wire.length(2, wire.length(2, b"short"))),
    ],
)
def test_what_is_no_struct_is_not_read(message: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.read_struct(message)


def reason(write: Callable[[Any], bytes], value: Any) -> str:
    try:
        write(value)
    except MessageError as error:
        return error.reason
    return ""


def test_every_message_of_the_table_is_whole() -> None:
    table = messages._table()
    names = [name for name in table if not name.startswith("=")]
    assert len(names) > 1_000
    for name in names:
        write = messages._by_fields(name)
        assert write({}) == b""
        for field, number, of, *_ in (entry.split(":") for entry in table[name].split()):
            null = {b"", wire.length(int(number), b"\x08\x00"), wire.number(int(number), 0)}
            assert write({field: None}) in null
            # Whatever it makes of an object, it has looked up first what it is of.
            assert "is known here" not in reason(write, {field: {"1": {}} if of.startswith("{") else {}}), (name, field)


def test_the_table_has_what_the_mesh_writes_and_what_its_fields_hold() -> None:
    table = messages._table()
    http = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    assert "route_config:4:envoy.config.route.v3.RouteConfiguration:0" in table[http].split()
    assert "headers:1:[].HeaderValue" in table[f"{CORE}HeaderMap"].split()
    assert "params:1:{string}string" in table["xds.core.v3.ContextParams"].split()
    assert table["=envoy.config.core.v3.SocketAddress.Protocol"] == "TCP:0 UDP:1"
    # Envoy reads no older version any more.
    assert not [name for name in table if ".v2." in name or ".v2alpha." in name]
