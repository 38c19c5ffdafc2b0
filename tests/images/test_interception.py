# SPDX-License-Identifier: Apache-2.0
"""What a sidecar takes of its pod's connections, and where curl is led that it leaves alone."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from meshbox.images.shim import curl_config
from meshbox.interception import EVERYTHING, Interception


def told(*arguments: str) -> Interception:
    return Interception.of({"initContainers": [{"name": "istio-init", "args": ["istio-iptables", *arguments]}]})


@pytest.mark.parametrize(
    ("arguments", "host", "port", "taken"),
    [
        ((), "10.0.0.1", 80, True),
        (("-i", ""), "10.0.0.1", 80, False),
        (("-i", "", "-q", "80"), "10.0.0.1", 80, True),
        (("-i", "10.0.0.0/8,11.0.0.0/8"), "11.0.0.1", 80, True),
        (("-i", "10.0.0.0/8"), "12.0.0.1", 80, False),
        (("-x", "10.0.0.1/32"), "10.0.0.1", 80, False),
        (("-q", "80", "-o", "80"), "10.0.0.1", 80, False),
        (("-o", "80,443"), "10.0.0.1", 8080, True),
        (("-m", "NONE"), "10.0.0.1", 80, False),
        (("-i", "10.0.0.0/8"), "outside.example", 80, False),
        (("-x", "nonsense"), "10.0.0.1", 80, True),
    ],
)
def test_what_goes_out_by_way_of_the_sidecar(arguments: tuple[str, ...], host: str, port: int, taken: bool) -> None:
    found = told(*arguments)
    assert found.takes_outbound(host, port) is taken
    assert Interception.read(found.written()).takes_outbound(host, port) is taken


def test_pods_without_anything_that_sets_it_up() -> None:
    assert Interception.of({"containers": [{"name": "istio-proxy"}]}) == EVERYTHING
    mode = {"name": "ISTIO_META_INTERCEPTION_MODE", "value": "NONE"}
    assert Interception.of({"containers": [{"name": "istio-proxy", "env": [mode]}]}).none
    assert hash(told("-b", "80")) == hash(told("-b", "80"))
    assert told("-b", "80") != told("-b", "81")


def surroundings(names: Path) -> dict[str, str]:
    """The variables of a container behind a sidecar, with the names that its pod finds."""
    return {
        "LABKIT_LOCAL_IP": "127.9.128.1",
        "LABKIT_POD_IP": "127.9.64.1",
        "LABKIT_CAPTURE": "127.9.128.1:15001",
        "LABKIT_DNS": str(names),
        "LABKIT_NAMESPACE": "shop",
    }


def test_curl_is_led_past_the_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It runs as a script, beside what it loads.
    monkeypatch.syspath_prepend(str(Path(curl_config.__file__).parent))
    names = tmp_path / "names"
    services = {"web.shop": {"ip": "127.9.16.5", "ports": [80]}, "db.shop": {"ip": "127.9.16.6", "raw": [5432]}}
    names.write_text(json.dumps({"services": services, "headless": {"shop/pods": ["127.9.64.7"]}, "external": {}}))
    more = {"LABKIT_LOW_PORT_SHIFT": "20000", "LABKIT_INTERCEPTION": told("-o", "80,5432,9000", "-d", "8080").written()}
    env = surroundings(names) | more
    lines = curl_config.configuration(env, ["-s", "http://web/x", "pods:9000", "localhost:8080/y", "web.shop:81"])
    assert 'connect-to = "web:80:127.9.16.5:20080"' in lines
    assert 'connect-to = "pods:9000:127.9.64.7:9000"' in lines
    assert 'connect-to = "localhost:8080:127.9.64.1:8080"' in lines
    (noproxy,) = [line for line in lines if line.startswith("noproxy")]
    assert {"web", "pods"} <= set(noproxy.split('"')[1].split(","))
    assert "web.shop" not in noproxy
    assert curl_config.raw_targets(env, ["telnet://db:5432"]) == {}
    del env["LABKIT_INTERCEPTION"]
    assert curl_config.raw_targets(env, ["telnet://db:5432"]) == {("db", 5432): ("127.9.16.6", 5432)}


@pytest.mark.parametrize(
    ("url", "direct"),
    [
        ("http://web/x", False),
        ("http://WEB.shop.svc.cluster.local.:80", False),
        ("pods:9000", False),
        ("http://api", False),
        ("http://far", False),
        ("http://outside.example", False),
        ("http://nobody", True),
        ("nobody.shop.svc.cluster.local:80/x", True),
        ("http://web.other.svc", True),
    ],
)
def test_a_name_that_nobody_has_is_left_to_curl(url: str, direct: bool, tmp_path: Path) -> None:
    names = tmp_path / "names"
    services = {"web.shop": {"ip": "127.9.16.5", "ports": [80]}}
    more = {
        "headless": {"shop/pods": ["127.9.64.7"]},
        "entries": {"api": "240.240.0.1"},
        "external": {"shop/far": "a.b"},
    }
    names.write_text(json.dumps({"services": services, **more}))
    env = surroundings(names) | {"LABKIT_DNS_CAPTURE": "true"}
    (noproxy,) = [line for line in curl_config.configuration(env, ["-s", url]) if line.startswith("noproxy")]
    host = url.removeprefix("http://").split("/")[0].split(":")[0]
    assert (host in noproxy.split('"')[1].split(",")) is direct


WEB, POD, OUTSIDE = ("127.9.16.5", 80), ("127.9.64.7", 9000), ("outside.example", 80)


@pytest.mark.parametrize(
    ("arguments", "led"),
    [
        (["http://web/x"], {}),
        (["-H", "Accept: text/plain", "http://web/x"], {}),
        (["-H", "Host: other.example", "http://web/x"], {("web", 80): WEB}),
        (["-sSH", "host:other.example", "web.shop", "pods:9000"], {("web.shop", 80): WEB, ("pods", 9000): POD}),
        (["-HHost: a", "http://127.9.64.7:9000"], {("127.9.64.7", 9000): POD}),
        (["--header", "Host: a", "http://outside.example"], {}),
        (["--header", "Host: a", "http://localhost:8080"], {}),
        (["--http2-prior-knowledge", "web"], {("web", 80): WEB}),
        (["--resolve", "outside.example:80:127.9.16.5", "http://outside.example"], {OUTSIDE: WEB}),
        (["--resolve", "outside.example:81:127.9.16.5", "http://outside.example"], {}),
        (["-H", "Host: a", "--resolve", "+*:80:127.9.16.5", "http://outside.example/a"], {OUTSIDE: WEB}),
        (["--connect-to", "outside.example:80:web:80", "http://outside.example"], {OUTSIDE: WEB}),
        (["--connect-to", "::pods:9000", "http://outside.example"], {OUTSIDE: POD}),
        (["--connect-to", "outside.example:::8080", "http://outside.example"], {}),
        (["-k", "https://web:443/a"], {("web", 443): (WEB[0], 443)}),
        (["https://web.shop.svc", "http://web"], {("web.shop.svc", 443): (WEB[0], 443)}),
        (["https://outside.example", "https://localhost:8443"], {}),
    ],
)
def test_curl_goes_past_its_proxy_where_that_would_change_what_it_asks(
    arguments: list[str], led: curl_config.Targets, tmp_path: Path
) -> None:
    names = tmp_path / "names"
    services = {"web.shop": {"ip": "127.9.16.5", "ports": [80]}}
    names.write_text(json.dumps({"services": services, "headless": {"shop/pods": ["127.9.64.7"]}}))
    env = surroundings(names)
    assert curl_config.raw_targets(env, arguments) == led


@pytest.mark.parametrize(
    "words", [["--resolve", "web.example:443:127.0.0.1"], ["--connect-to", "web.example::localhost:"]]
)
@pytest.mark.parametrize("capture", [True, False])
def test_a_name_that_is_looked_for_at_localhost_is_the_pod_s_own(
    words: list[str], capture: bool, tmp_path: Path
) -> None:
    names = tmp_path / "names"
    names.write_text("{}")
    env = surroundings(names)
    if not capture:
        del env["LABKIT_CAPTURE"]
    lines = curl_config.configuration(env, [*words, "https://web.example"])
    own = env["LABKIT_LOCAL_IP"] if capture else env["LABKIT_POD_IP"]
    assert f'connect-to = "web.example::{own}:"' in lines
    (noproxy,) = [line for line in lines if line.startswith("noproxy")]
    assert "web.example" in noproxy.split('"')[1].split(",")
    assert curl_config.raw_targets(env, [*words, "https://web.example"]) == {}


FILE = """\
# what is asked
url = "http://outside.example"
--header: "Host: \\"a\\""
-H "Accept: *"
silent
connect-to = outside.example:80:web:80
"""


def test_what_curl_reads_from_a_file_counts_as_well(tmp_path: Path) -> None:
    file = tmp_path / "asked"
    file.write_text(FILE)
    read = ["http://outside.example", "--header", 'Host: "a"', "-H", "Accept: *", "--silent"]
    read += ["--connect-to", "outside.example:80:web:80"]
    for words in (["-sK", str(file)], [f"-K{file}"], ["--config", str(file)]):
        assert [one for one in curl_config.written_out([*words, "-v"]) if one not in words] == [*read, "-v"]
    names = tmp_path / "names"
    names.write_text(json.dumps({"services": {"web.shop": {"ip": "127.9.16.5", "ports": [80]}}}))
    given = curl_config.written_out(["-K", str(file)])
    assert curl_config.raw_targets(surroundings(names), given) == {OUTSIDE: WEB}
    assert curl_config.written_out([]) == []
    assert curl_config.raw_targets(surroundings(names), []) == {}
    assert curl_config.configuration(surroundings(names), [])
    assert curl_config.written_out(["-K", str(tmp_path / "none"), "-K", "-"]) == [
        "-K",
        str(tmp_path / "none"),
        "-K",
        "-",
    ]


@pytest.mark.parametrize(
    ("arguments", "led"),
    [
        (["s_client", "-connect", "web:443"], ["s_client", "-connect", "127.9.16.5:443", "-servername", "web"]),
        (
            ["s_client", "-connect", "web.shop.svc:8443", "-servername", "a"],
            ["s_client", "-connect", "127.9.16.5:8443", "-servername", "a"],
        ),
        (["s_client", "-connect", "127.9.16.5:80"], ["s_client", "-connect", "127.9.16.5:80"]),
        (
            ["s_client", "-connect", "outside.example:443"],
            ["s_client", "-connect", "outside.example:443", "-servername", "outside.example"],
        ),
        (["x509", "-connect", "web:80"], ["x509", "-connect", "web:80"]),
        (["s_client", "-connect"], ["s_client", "-connect"]),
    ],
)
def test_openssl_finds_the_names_of_its_pod(
    arguments: list[str], led: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(curl_config.__file__).parent))
    names = tmp_path / "names"
    names.write_text(json.dumps({"services": {"web.shop": {"ip": "127.9.16.5", "ports": [443]}}}))
    # The proxy's own container: what it sends nobody captures.
    env = {key: value for key, value in surroundings(names).items() if key != "LABKIT_CAPTURE"}
    assert importlib.import_module("s_client").led(env, arguments) == led
