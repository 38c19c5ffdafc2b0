# SPDX-License-Identifier: Apache-2.0
"""What Kiali's console writes: its wizards for a Service's routes, its editor, and its pages for new objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.conftest import Window
from tests.browser.test_consoles import forwarded
from tests.browser.views import sign_in
from tests.conftest import wait_until
from tests.shops import Shop

pytestmark = pytest.mark.browser

NAME = "opinions"
HOST = f"{NAME}.bookinfo.svc.cluster.local"
SERVICE = f"""
apiVersion: v1
kind: Service
metadata: {{name: {NAME}, namespace: bookinfo}}
spec: {{selector: {{app: reviews}}, ports: [{{name: http, port: 9080}}]}}
"""
SECONDS = 60
ROUTES = [
    {"destination": {"host": HOST, "subset": subset}, "weight": weight}
    for subset, weight in (("v1", 33), ("v2", 33), ("v3", 34))
]
WIZARDS = {
    "Request Routing": {"http": [{"route": ROUTES}]},
    "Fault Injection": {"http": [{"route": ROUTES}]},
    "Traffic Shifting": {"http": [{"route": ROUTES}]},
    "TCP Traffic Shifting": {"tcp": [{"route": ROUTES}]},
    "Request Timeouts": {"http": [{"route": ROUTES}]},
}
"""What is in the Service's menu, and the routes that are made where nothing but *Create* is pressed."""


class Console:
    """Kiali's console in a browser, and the cluster that it writes to."""

    def __init__(self, shop: Shop, page: Any, url: str) -> None:
        self._shop = shop
        self.page = page
        self._url = url

    def open(self, path: str) -> None:
        """A page of the console."""
        self.page.goto(f"{self._url}/{path}")

    def wizard(self, name: str) -> None:
        """Open a wizard from the Service's menu."""
        self.open(f"namespaces/bookinfo/services/{NAME}")
        # Until the Service has come, its menu has nothing to offer.
        self.page.get_by_text("reviews-v3").first.wait_for()
        self.page.locator("button:has-text('Actions')").last.click()
        self.page.get_by_text(name, exact=True).click()

    def press(self, name: str) -> None:
        """Press a button."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def spec(self, kind: str, name: str = NAME) -> Any:
        """An object's spec without what is null; None if there is none."""
        found = self._shop.sandbox.kubectl(
            "get", kind, name, "-n", "bookinfo", "-o", "json", "--ignore-not-found"
        ).stdout
        return without_nulls(json.loads(found)["spec"]) if found.strip() else None

    def made(self, kind: str, name: str = NAME) -> Any:
        """The spec of an object, as soon as there is one."""
        wait_until(lambda: self.spec(kind, name) is not None, SECONDS, f"a {kind}")
        return self.spec(kind, name)


def without_nulls(value: Any) -> Any:
    """What is left without nulls in maps: the API server of Istio 1.2's time keeps them, and they say nothing."""
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


@pytest.fixture
def console(shop: Shop, window: Window, kiali: None) -> Iterator[Console]:
    """The console, and a Service of three workloads that nobody has written rules for."""
    kubectl = shop.sandbox.kubectl
    kubectl("apply", "-f", "-", stdin=SERVICE)
    try:
        with forwarded(shop, "kiali") as forward:
            page = window.open(f"{forward.url}/kiali/console")
            sign_in(page, shop.sandbox.release)
            yield Console(shop, page, f"{forward.url}/kiali/console")
            page.close()
    finally:
        for kind in ("virtualservice", "destinationrule", "service"):
            kubectl("delete", kind, NAME, "-n", "bookinfo", "--ignore-not-found")


@pytest.mark.parametrize("wizard", WIZARDS)
def test_a_wizard_writes_routes_and_takes_them_back(console: Console, wizard: str) -> None:
    console.wizard(wizard)
    if wizard == "Request Routing":
        console.press("Add Rule")
    console.press("Create")
    assert console.made("virtualservice") == {"hosts": [HOST], **WIZARDS[wizard]}
    rule = console.made("destinationrule")
    assert (rule["host"], [one["labels"]["version"] for one in rule["subsets"]]) == (HOST, ["v1", "v2", "v3"])
    console.wizard("Delete Traffic Routing")
    console.press("Delete")
    wait_until(lambda: console.spec("virtualservice") is None, SECONDS, "no VirtualService")
    wait_until(lambda: console.spec("destinationrule") is None, SECONDS, "no DestinationRule")


def test_a_wizard_and_the_editor_change_what_is_there(console: Console) -> None:
    console.wizard("Request Timeouts")
    console.press("Create")
    # The page writes both, one after the other, and would write the second no more once it is left.
    console.made("virtualservice")
    console.made("destinationrule")
    console.wizard("Request Timeouts")
    # Switched on, it says two seconds.
    console.page.locator("label[for=timeoutSwitch]").last.click()
    console.press("Update")
    wait_until(lambda: "timeout" in console.spec("virtualservice")["http"][0], SECONDS, "a timeout")
    assert console.spec("virtualservice") == {"hosts": [HOST], "http": [{"route": ROUTES, "timeout": "2s"}]}

    console.open(f"namespaces/bookinfo/istio/virtualservices/{NAME}?list=yaml")
    editor = "document.querySelector('.ace_editor')?.env?.editor"
    console.page.wait_for_function(f"() => {editor}?.getValue().includes('timeout: 2s')")
    console.page.evaluate(f"() => {editor}.setValue({editor}.getValue().replace('timeout: 2s', 'timeout: 7s'))")
    console.press("Save")
    wait_until(lambda: console.spec("virtualservice")["http"][0]["timeout"] == "7s", SECONDS, "another timeout")


NEW = {
    "AuthorizationPolicy": {},
    "PeerAuthentication": {"mtls": {"mode": "PERMISSIVE"}},
    "RequestAuthentication": {},
    "Gateway": {
        "selector": {"istio": "ingressgateway"},
        "servers": [{"hosts": ["opinions.example.com"], "port": {"number": 80, "name": "http", "protocol": "HTTP"}}],
    },
    "Sidecar": {"egress": [{"hosts": ["istio-system/*", "bookinfo/*"]}]},
}
"""What the pages make for each kind when the fields below are filled in."""


def may_create(shop: Shop, kind: str) -> str:
    """Whether Kiali's account may create objects of a kind: "yes" or "no"."""
    plural = kind.removesuffix("y") + "ies" if kind.endswith("policy") else f"{kind}s"
    group = "networking" if kind in ("gateway", "sidecar") else "security"
    asked = ("auth", "can-i", "create", f"{plural}.{group}.istio.io", "-n", "bookinfo")
    account = json.loads(shop.sandbox.kubectl("get", "deployment", "kiali", "-n", "istio-system", "-o", "json").stdout)[
        "spec"
    ]["template"]["spec"]["serviceAccountName"]
    said = shop.sandbox.kubectl(*asked, f"--as=system:serviceaccount:istio-system:{account}", check=False)
    return said.stdout.split()[0]


@pytest.mark.parametrize("kind", NEW)
def test_new_objects(console: Console, shop: Shop, kind: str) -> None:
    page, name = console.page, f"{NAME}-new"
    console.open("istio/new?namespaces=bookinfo")
    page.select_option("#istio-resource", kind)
    page.fill("#name", name)
    if kind == "PeerAuthentication":
        page.select_option("#mutualTls", "PERMISSIVE")
    elif kind == "Gateway":
        page.fill("#addHosts", "opinions.example.com")
        console.press("Add Server")
    elif kind == "Sidecar":
        page.fill("#addEgressHost", "bookinfo/*")
        console.press("Add Egress Host")
    if shop.sandbox.release == "1.2.2" and kind != "Gateway":
        # Of what this page makes, the role `kiali` of its installation may create gateways only; in the group
        # networking.istio.io it may destinationrules, serviceentries and virtualservices as well, and of
        # security.istio.io (since Istio 1.4) it knows nothing. So the page says, too.
        assert may_create(shop, kind.lower()) == "no"
        page.get_by_role("button", name="Create", exact=True).and_(page.locator(":disabled")).wait_for()
        return
    try:
        assert may_create(shop, kind.lower()) == "yes"
        console.press("Create")
        found = console.made(kind.lower(), name)
    finally:
        shop.sandbox.kubectl("delete", kind.lower(), name, "-n", "bookinfo", "--ignore-not-found")
    assert {key: value for key, value in found.items() if value not in ({}, [], "")} == NEW[kind]
