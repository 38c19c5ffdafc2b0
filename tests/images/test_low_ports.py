# SPDX-License-Identifier: Apache-2.0
"""Ports below 1024 for a user who may not bind them: everyone moves the same ones to the same places."""

from __future__ import annotations

import pytest

from labkit.ground.web import Request, Response, listen, real_port
from meshbox.addresses import LOW_PORT_SHIFT, AddressPlan
from meshbox.images.shim.sitecustomize import _Network

ADDRESS = "127.250.128.1"


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> AddressPlan:
    """The surroundings of a container whose user may not bind ports below 1024."""
    monkeypatch.setenv("LABKIT_LOW_PORT_SHIFT", str(LOW_PORT_SHIFT))
    return AddressPlan(250, low_ports=False)


def answer(_: Request) -> Response:
    return Response()


def test_port_zero_is_a_free_one_however_often(ordinary: AddressPlan) -> None:
    servers = [server for _ in range(3) for server in listen({0: answer}, ADDRESS)]
    ports = {server.server_address[1] for server in servers}
    for server in servers:
        server.server_close()
    assert len(ports) == 3
    assert LOW_PORT_SHIFT not in ports


def test_everyone_agrees_where_a_port_is(ordinary: AddressPlan) -> None:
    network = _Network({}, "127.250.128.1", "127.250.64.1", "127.250.64.1", None, LOW_PORT_SHIFT)
    for port in (0, 1, 80, 443, 1023, 1024, 9080, 65535):
        expected = port + LOW_PORT_SHIFT if 0 < port < 1024 else port
        assert (real_port(port), ordinary.port(port), network.real(port)) == (expected, expected, expected)
