# SPDX-License-Identifier: Apache-2.0
"""Whom an Envoy lets in by its matcher in Lua: a stock Envoy with nothing but that check, and callers of each kind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from labkit.ground import config
from meshbox import doors
from meshbox.addresses import AddressPlan
from tests.conftest import PATIENCE
from tests.stranger import as_stranger, http, say

_TYPE = "type.googleapis.com/envoy.extensions.filters"
GREETING = b"hello"


def _config(host: str) -> dict[str, Any]:
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "hello"}}}
    manager = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "door",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answer]}]},
        # Else Envoy keeps each connection for a second after the answer.
        "delayed_close_timeout": "0s",
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{_TYPE}.http.router.v3.Router"}}],
    }
    filters = [*doors.peer_check(), {"name": "manager", "typed_config": manager}]
    address = {"socket_address": {"address": host, "port_value": 0}}
    return {"static_resources": {"listeners": [{"address": address, "filter_chains": [{"filters": filters}]}]}}


@pytest.fixture(params=["diagnosis", "without it"])
def door(
    request: pytest.FixtureRequest,
    plan: AddressPlan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[..., Any],
) -> Iterator[tuple[str, int]]:
    """Where such an Envoy listens; the kernel tells by netlink, or has to be read in /proc/net/tcp."""
    lua, diagnosis = tmp_path / "doors.lua", "0x80000, 4, 0x40"
    text = doors.LUA.read_text()
    assert text.count(diagnosis) == 1
    # No kernel has a netlink of that number.
    lua.write_text(text if request.param == "diagnosis" else text.replace(diagnosis, "0x80000, 4000, 0x40"))
    monkeypatch.setattr(doors, "LUA", lua)
    file, log = tmp_path / "envoy.json", tmp_path / "log"
    file.write_text(json.dumps(_config(plan.node)))
    program = config.tool("envoy")
    assert program is not None
    command = [str(program), "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
    with log.open("wb") as written, subprocess.Popen(command, stdout=written, stderr=written) as envoy:
        try:

            def listening() -> list[Any]:
                assert envoy.poll() is None, log.read_text()
                found = psutil.Process(envoy.pid).net_connections("tcp")
                return [one.laddr for one in found if one.status == psutil.CONN_LISTEN]

            yield tuple(until(listening, what="Envoy listens")[0])
        finally:
            envoy.kill()


def test_an_envoy_lets_in_who_is_welcome(door: tuple[str, int]) -> None:
    words = http("GET", "/", "door")
    assert say(door, words).endswith(GREETING)
    # As programs call that know of IPv6 only, Java's for one.
    with socket.socket(socket.AF_INET6) as client:
        client.settimeout(PATIENCE)
        client.connect((f"::ffff:{door[0]}", door[1]))
        client.sendall(words)
        answer = b""
        while data := client.recv(65536):
            answer += data
    assert answer.endswith(GREETING)
    if os.geteuid() == 0:
        assert as_stranger(lambda: say(door, words)) == b""
        # What is known of one connection is not believed of the next.
        assert say(door, words).endswith(GREETING)
        assert as_stranger(lambda: say(door, words)) == b""
