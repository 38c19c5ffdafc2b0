# SPDX-License-Identifier: Apache-2.0
"""Our istioctl on BookInfo's mesh says as a whole, word for word, what documents show of genuine ones.

Both releases, in the words of 1.30's istioctl. What 1.2.2's own one said in other columns is told in these.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labkit import cluster, istio
from labkit.istioctl.commands import main
from tests.shops import DEPLOYED, Shop

SHOWN = (Path(__file__).parent / "istioctl_outputs.txt").read_text()
DOCUMENTED = dict(re.findall(r"^== (.+)\n((?:(?!== ).*\n)+)", SHOWN, re.M))
BY_SITUATION: dict[str, list[str]] = {}
for _title in DOCUMENTED:
    BY_SITUATION.setdefault(_title.partition(": ")[0] if ": " in _title else "", []).append(_title)

DIFFERS = (
    (r"\b\d+\.\d+\.\d+\.\d+\b", "ADDRESS"),
    (r"\b\d+\.\d+\.\d+\b", "RELEASE"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r"\b[0-9a-f]{32,40}\b", "SERIAL"),
    (r"/v1\.\d+/docs", "/RELEASE/docs"),
    (r"\(\d+ proxies\)", "(N proxies)"),
    (r"\b(istiod|istio-pilot)-[0-9a-f]+-[0-9a-z]{5}\b", "ISTIOD"),
    (r"-[0-9a-f]{6,10}-[0-9a-z]{5}\b", "-POD"),
    (r"\S*bookinfo-gateway.yaml:\d+", "FILE:LINE"),
    (r"\bmisc: \w+", "misc: LEVEL"),
    (r"(?<=failed to execute command on sidecar: ).*", "WHY"),
)
"""What is another's in every mesh: addresses, releases, times, serial numbers, names of pods, places in files, the
level that an injector gives one logger, and in which way a proxy that is not there does not answer."""

Say = Callable[[str], str]


def words(text: str) -> list[str]:
    """Its lines, indented as they are, without what differs by nature, nor how wide that makes a column."""
    for pattern, word in DIFFERS:
        text = re.sub(pattern, word, text)
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("→ "))
    return [line[: len(line) - len(line.lstrip())] + " ".join(line.split()) for line in lines]


@pytest.fixture
def say(shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Say]:
    """What istioctl says to a title's command, on both its ways out."""
    monkeypatch.setenv("LABKIT_HOME", str(shop.sandbox.labkit_home))
    monkeypatch.setenv("KUBECONFIG", str(shop.sandbox.kubeconfig))
    samples = istio.release(shop.sandbox.release).samples / "bookinfo/networking"

    def named(found: re.Match[str]) -> str:
        if found[1].endswith(".yaml"):
            return str(samples / found[1])
        app, _, version = found[1].partition("-")
        labels = f"app={app},version={version or 'v1'}"
        listed = shop.sandbox.kubectl("get", "pods", "-n", "bookinfo", "-l", labels, "-o", "json").stdout
        return str(json.loads(listed)["items"][0]["metadata"]["name"])

    def said(title: str) -> str:
        command = re.sub(r"\{(.+?)\}", named, title.partition(": ")[2] or title)
        asked = shlex.split(command)
        main(asked if "-n" in asked or "--namespace" in asked else [*asked, "-n", "bookinfo"])
        out = capsys.readouterr()
        return out.out + out.err

    yield said
    cluster.leave()


def expected(title: str, shop: Shop) -> list[str]:
    """What the document shows, of a mesh of this release."""
    text = DOCUMENTED[title]
    if shop.sandbox.release == "1.2.2":
        # Its pods say nothing of revisions, and its certificates are no secrets of Envoy's.
        return words(text.replace("Pod Revision: default", "Pod Revision:"))
    # The document is older than 1.27, from which on a host is also served by its whole name with a dot at its end.
    text = re.sub(r"(\w+), \1\.bookinfo \+ 1 more", r"\1.bookinfo.svc.cluster.local., \1 + 2 more", text)
    # Its sidecars are native ones, so no containers of the pod's.
    return words(text.replace(", 15090 (istio-proxy)", ""))


def compare(situation: str, say: Say, shop: Shop, *but: str) -> None:
    titles = [one for one in BY_SITUATION[situation] if one not in but]
    assert titles
    for title in titles:
        assert words(say(title)) == expected(title, shop), title


SECRETS = "proxy-config secret {ratings}"


def test_what_runs_and_what_an_envoy_was_told(say: Say, shop: Shop) -> None:
    client, *others = say("version").splitlines()
    assert client.startswith("client version: ")
    assert words("\n".join(others)) == expected("version", shop)
    compare("", say, shop, "version", *([SECRETS] if shop.sandbox.release == "1.2.2" else []))


def test_levels_of_loggers(say: Say, shop: Shop) -> None:
    (title,) = BY_SITUATION["loggers"]
    said, shown = words(say(title)), expected(title, shop)
    assert [line for line in said if line in shown] == shown
    # Those that came since are told as the others are.
    assert all(re.fullmatch("  [a-z0-9_]+: [a-zA-Z]+", line) for line in said[2:])


@pytest.mark.parametrize("shop_release", ["1.30.3"], indirect=True)
def test_gateways(say: Say, shop: Shop) -> None:
    compare("gateways", say, shop)


RULES, PLAIN = "destination-rule-all-mtls.yaml", "destination-rule-all.yaml"
APPLIED = {
    "mtls": (RULES,),
    "all-v1": (RULES, "virtual-service-all-v1.yaml"),
    "no rules": ("virtual-service-all-v1.yaml",),
    "90-10": (RULES, "virtual-service-reviews-90-10.yaml"),
    "jason": (RULES, "virtual-service-reviews-jason-v2-v3.yaml"),
}


@pytest.mark.parametrize("situation", APPLIED)
def test_what_bears_on_a_pod(situation: str, say: Say, shop: Shop) -> None:
    samples = istio.release(shop.sandbox.release).samples / "bookinfo/networking"
    kubectl, here = shop.sandbox.kubectl, ("-n", "bookinfo")
    try:
        if RULES not in APPLIED[situation]:
            kubectl("delete", "-f", str(samples / PLAIN), *here)
        kubectl("apply", *(f"--filename={samples / one}" for one in APPLIED[situation]), *here)
        compare(situation, say, shop)
    finally:
        for file in APPLIED[situation][-1:]:
            kubectl("delete", "-f", str(samples / file), *here)
        kubectl("apply", "-f", str(samples / PLAIN), *here)


COREDNS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: coredns, namespace: bookinfo}
spec:
  selector: {matchLabels: {app: coredns}}
  template:
    metadata:
      labels: {app: coredns, version: v1, sidecar.istio.io/inject: "false"}
      annotations: {sidecar.istio.io/inject: "false"}
    spec:
      containers:
      - name: coredns
        image: docker.io/curlimages/curl:8.16.0
        command: [sleep, infinity]
        ports: [{containerPort: 53, protocol: UDP}, {containerPort: 53}, {containerPort: 9153}]
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: bookinfo}
spec: {selector: {app: coredns}, ports: [{name: dns-tcp, port: 53}]}
"""


def test_a_pod_without_a_sidecar(say: Say, shop: Shop) -> None:
    shop.sandbox.kubectl("apply", "-f", "-", stdin=COREDNS)
    try:
        shop.sandbox.kubectl("wait", DEPLOYED, "deployment/coredns", "-n", "bookinfo", "--timeout=120s")
        compare("without a sidecar", say, shop)
    finally:
        shop.sandbox.kubectl("delete", "-f", "-", stdin=COREDNS)
        # Its pod goes after it, and is one without a sidecar until then.
        gone = ("wait", "--for=delete", "pod", "-l", "app=coredns", "-n", "bookinfo", "--timeout=240s")
        shop.sandbox.kubectl(*gone)


STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: ratings-strict, namespace: bookinfo}
spec: {selector: {matchLabels: {app: ratings}}, mtls: {mode: STRICT}}
"""


@pytest.mark.parametrize("shop_release", ["1.30.3"], indirect=True)
def test_a_pod_that_wants_mutual_tls(say: Say, shop: Shop) -> None:
    shop.sandbox.kubectl("apply", "-f", "-", stdin=STRICT)
    try:
        compare("strict", say, shop)
    finally:
        shop.sandbox.kubectl("delete", "-f", "-", stdin=STRICT)


# The document's mesh has no kinds of 1.2.2's, of which today's analyzers say that they are gone.
@pytest.mark.parametrize("shop_release", ["1.30.3"], indirect=True)
def test_what_is_wrong_in_a_namespace(say: Say, shop: Shop) -> None:
    shop.sandbox.kubectl("create", "namespace", "frod")
    try:
        compare("frod", say, shop)
    finally:
        shop.sandbox.kubectl("delete", "namespace", "frod")
