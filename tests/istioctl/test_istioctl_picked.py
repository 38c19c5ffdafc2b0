# SPDX-License-Identifier: Apache-2.0
"""What of an Envoy's configuration our istioctl picks out: listeners, endpoints, rules of access, read from files."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from labkit.istio.envoy.dump import Dump
from labkit.istioctl import summaries
from labkit.istioctl.commands import main


def a_listener(name: str, port: int, cluster: str = "", **more: Any) -> dict[str, Any]:
    filters = [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {"cluster": cluster}}] if cluster else []
    web = {"rds": {"route_config_name": str(port)}}
    filters = filters or [{"name": "envoy.filters.network.http_connection_manager", "typed_config": web}]
    at = {"socket_address": {"address": "10.0.0.1", "port_value": port}}
    return {"name": name, "address": at, "filter_chains": [{"filters": filters}], **more}


def a_file_of_listeners(folder: Path) -> str:
    sent = [a_listener("virtualInbound_9080", 9080), a_listener("virtualInbound_7070", 7070, "BlackHoleCluster")]
    sent += [a_listener("10.0.0.1_9080", 9080, "outbound|9080||b"), a_listener("virtualOutbound", 15001, "x")]
    part = {
        "@type": "x.ListenersConfigDump",
        "static_listeners": [{"listener": a_listener("stats", 15090)}],
        "dynamic_listeners": [
            {"name": one["name"], "active_state": {"version_info": "1", "listener": one}} for one in sent
        ],
    }
    file = folder / "dump.json"
    file.write_text(json.dumps({"configs": [part]}))
    return str(file)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["virtualInbound_9080", "virtualInbound_7070", "10.0.0.1_9080", "virtualOutbound", "stats"]),
        (["--port", "15006"], ["virtualInbound_9080", "virtualInbound_7070"]),
        (["--port", "9080"], ["virtualInbound_9080", "10.0.0.1_9080"]),
        (["--port", "9080", "--type", "tcp"], ["10.0.0.1_9080"]),
        (["--type", "unknown"], ["virtualInbound_7070"]),
        (["--port", "15001"], ["virtualOutbound"]),
        (["--address", "10.0.0.2"], []),
    ],
)
def test_listeners_are_found_by_what_istio_calls_them(
    words: list[str], names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pc", "listeners", "-f", a_file_of_listeners(tmp_path), "-o", "json", *words]) == 0
    told = capsys.readouterr()
    # What was sent comes before what the Envoy began with.
    assert [one["name"] for one in json.loads(told.out)] == names
    assert ("No connection is redirected to 15006 here" in told.err) == ("15006" in words)


def test_listeners_and_routes_are_counted_where_less_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = a_file_of_listeners(tmp_path)
    assert main(["pc", "l", "-f", file, "--port", "9080", "--verbose=false"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["ADDRESSES", "PORT", "TYPE"],
        ["10.0.0.1", "9080", "HTTP"],
        ["10.0.0.1", "9080", "TCP"],
    ]
    assert main(["pc", "all", "-f", file, "--port", "7070", "--name", "none"]) == 0
    every = capsys.readouterr().out
    assert [line for line in every.splitlines() if line.startswith("listener/")] == [
        "listener/virtualInbound_7070 10.0.0.1  7070 ALL   Non-HTTP/Non-TCP"
    ]
    hosts = [{"name": name, "domains": [name]} for name in "ab"]
    tables = {"static_route_configs": [{"route_config": {"name": "80", "virtual_hosts": hosts}}]}
    found = Dump({"configs": [{"@type": "x.RoutesConfigDump", **tables}]}, {}, {}, datetime.now(UTC))
    assert list(summaries.routes(found, {}, verbose=False)) == [("NAME", "VIRTUAL HOSTS"), ("80", 2)]


def test_endpoints_are_read_from_a_file_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "clusters.json"
    host = {"address": {"socket_address": {"address": "10.0.0.7", "port_value": 80}}}
    host |= {"health_status": {"eds_health_status": "HEALTHY"}}
    file.write_text(json.dumps({"cluster_statuses": [{"name": "outbound|80||b", "host_statuses": [host]}]}))
    assert main(["pc", "ep", "-f", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["10.0.0.7:80", "HEALTHY", "OK", "outbound|80||b"]
    assert main(["pc", "cluster", "-f", str(file)]) == 1
    assert "is no /config_dump of an Envoy: it has no `configs`" in capsys.readouterr().err


def test_rules_of_access_are_counted_wherever_they_stand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def rbac(action: str, *names: str) -> dict[str, Any]:
        return {"rules": {"action": action, "policies": {name: {} for name in names}}}

    deny, allow = rbac("DENY", "ns[a]-policy[no]-rule[0]"), {"rules": {"policies": {"ns[a]-policy[b-c]-rule[0]": {}}}}
    network = [{"name": "envoy.filters.network.rbac", "typed_config": one} for one in (deny, rbac("ALLOW", "own-user"))]
    own = {"typed_per_filter_config": {"x": {"rbac": deny}, "y": {"rbac": allow}}}
    more = rbac("ALLOW", "ns[a]-policy[b-c]-rule[1]", "ns[istio-system]-policy[all]-rule[0]")
    listener = a_listener("virtualInbound_80", 80, filter_chains=[{"filters": network}])
    parts: dict[str, Any] = {
        "Listeners": {"static_listeners": [{"listener": listener}]},
        "Routes": {"static_route_configs": [{"route_config": {"name": "in", **own, "z": [more]}}]},
    }
    configs = [{"@type": f"x.{name}ConfigDump", **part} for name, part in parts.items()]
    file = tmp_path / "dump.json"
    file.write_text(json.dumps({"configs": configs}))
    assert main(["experimental", "authz", "check", "-f", str(file)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ACTION   AuthorizationPolicy   RULES",
        "DENY     no.a                  1",
        "ALLOW    all.istio-system      1",
        "ALLOW    b-c.a                 2",
    ]
