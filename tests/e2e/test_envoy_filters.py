# SPDX-License-Identifier: Apache-2.0
"""EnvoyFilters applied with kubectl: what BookInfo's page, kubectl and events show of them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

from tests.conftest import wait_until
from tests.shops import Shop

CURRENT = """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: marks, namespace: bookinfo}
spec:
  workloadSelector: {labels: {app: productpage}}
  configPatches:
  - applyTo: HTTP_FILTER
    match:
      context: SIDECAR_INBOUND
      listener:
        portNumber: 9080
        filterChain:
          filter:
            name: envoy.filters.network.http_connection_manager
            subFilter: {name: envoy.filters.http.router}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.lua
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          inlineCode: |
            function envoy_on_response(handle)
              handle:headers():add("x-marked", "MARK")
            END
"""
LEGACY = """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: marks, namespace: bookinfo}
spec:
  workloadLabels: {app: productpage}
  filters:
  - listenerMatch: {portNumber: 9080, listenerType: SIDECAR_INBOUND, listenerProtocol: HTTP}
    insertPosition: {index: BEFORE, relativeTo: envoy.router}
    filterName: envoy.lua
    filterType: HTTP
    filterConfig:
      inlineCode: |
        function envoy_on_response(handle)
          handle:headers():add("x-marked", "MARK")
        END
"""
BOOTSTRAP = """
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: starts, namespace: bookinfo}
spec:
  configPatches: [{applyTo: BOOTSTRAP, patch: {operation: MERGE, value: {stats_flush_interval: 1s}}}]
"""


def test_a_script_works_a_bad_one_changes_nothing_and_events_say_so(shop: Shop) -> None:
    text = LEGACY if shop.sandbox.release == "1.2.2" else CURRENT

    def apply(mark: str, end: str = "end") -> None:
        given = text.replace("MARK", mark).replace("END", end)
        shop.sandbox.kubectl("apply", "-f", "-", stdin=given)

    def mark() -> str | None:
        try:
            with urllib.request.urlopen(shop.url + "/productpage", timeout=60) as page:
                found: str | None = page.headers["x-marked"]
                return found
        except urllib.error.HTTPError as error:
            # A listener that is replaced drains for a second here, and a busy machine may need longer for a page.
            with error:
                return None

    def warnings() -> list[str]:
        listed = shop.sandbox.kubectl("get", "events", "-n", "bookinfo", "-o", "json").stdout
        return [
            event["message"]
            for event in json.loads(listed)["items"]
            if event["involvedObject"]["name"] == "marks" and event["type"] == "Warning"
        ]

    try:
        apply("first")
        wait_until(lambda: mark() == "first", 240, "the script marks BookInfo's page")
        assert warnings() == []
        apply("second", "en")
        wait_until(warnings, 240, "an event on the bad one")
        assert "until it is changed: script load error" in warnings()[0]
        assert "goes on with the version before" in warnings()[0]
        assert mark() == "first"
        apply("third")
        wait_until(lambda: mark() == "third", 240, "the mended script marks the page")
    finally:
        shop.sandbox.kubectl("delete", "envoyfilter", "marks", "-n", "bookinfo")
    wait_until(lambda: mark() is None, 240, "nothing is left of the script")


def test_what_is_not_played_is_said_at_apply(shop: Shop) -> None:
    said = shop.sandbox.kubectl("apply", "-f", "-", "--dry-run=server", stdin=BOOTSTRAP).stderr
    if shop.sandbox.release == "1.2.2":
        assert "configPatches, which Istio 1.2 does not know, has no effect in the sandbox" in said
    else:
        assert "Warning: configPatches[0]: applyTo BOOTSTRAP has no effect in the sandbox" in said
