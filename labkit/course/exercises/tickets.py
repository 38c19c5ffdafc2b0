# SPDX-License-Identifier: Apache-2.0
"""Faults of lesson 18, by what people say who meet them: manifests for `lesson.rules`, which mends the one before."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from labkit.ground.errors import SettingError
from labkit.istio import Release

__all__ = ["TICKETS", "destination_rule", "gateway", "policy", "ticket", "virtual_service"]

_PORT = {"1.2.2": 80, "1.30.3": 8080}
"""Where the gateway's pod listens: the port number of a Gateway."""

_OBJECT = """
apiVersion: {api}
kind: {kind}
metadata: {{name: {name}, namespace: bookinfo}}
spec: {spec}
"""


def _networking(kind: str, name: str, spec: str) -> str:
    return _OBJECT.format(api="networking.istio.io/v1alpha3", kind=kind, name=name, spec=spec)


def virtual_service(host: str, *routes: str) -> str:
    """The VirtualService of a host, in its `http`."""
    return _networking("VirtualService", host, f"{{hosts: [{host}], http: [{', '.join(routes)}]}}")


def destination_rule(host: str, spec: str) -> str:
    """The DestinationRule of a host."""
    return _networking("DestinationRule", host, f"{{host: {host}, {spec}}}")


def gateway(release: str, host: str, selector: str = "ingressgateway") -> str:
    """BookInfo's Gateway, for one host."""
    server = f"{{port: {{number: {_PORT[release]}, name: http, protocol: HTTP}}, hosts: ['{host}']}}"
    return _networking("Gateway", "bookinfo-gateway", f"{{selector: {{istio: {selector}}}, servers: [{server}]}}")


def policy(release: str, app: str, account: str) -> str:
    """What an application demands of callers: today that they are one ServiceAccount, in 2019 mutual TLS."""
    if release == "1.2.2":
        spec = f"{{targets: [{{name: {app}}}], peers: [{{mtls: {{}}}}]}}"
        return _OBJECT.format(api="authentication.istio.io/v1alpha1", kind="Policy", name=app, spec=spec)
    source = f"{{source: {{principals: [cluster.local/ns/bookinfo/sa/{account}]}}}}"
    spec = f"{{selector: {{matchLabels: {{app: {app}}}}}, rules: [{{from: [{source}]}}]}}"
    return _OBJECT.format(api="security.istio.io/v1", kind="AuthorizationPolicy", name=app, spec=spec)


def _door(host: str, bound_to: str) -> str:
    to_page = "{route: [{destination: {host: productpage, port: {number: 9080}}}]}"
    spec = f"{{hosts: ['{host}'], gateways: [{bound_to}], http: [{to_page}]}}"
    return _networking("VirtualService", "bookinfo", spec)


TICKETS: Mapping[str, Callable[[str], str]] = {
    "nobody gets in": lambda release: gateway(release, "*", "ingresgateway"),
    "everybody gets 404": lambda release: gateway(release, "bookshop.example"),
    "still 404": lambda release: _door("*", "bookinfo-gatway"),
    "no details": lambda release: virtual_service(
        "details", "{route: [{destination: {host: details, subset: stable}}]}"
    ),
    "no stars": lambda release: virtual_service(
        "ratings",
        "{fault: {abort: {percentage: {value: 100}, httpStatus: 503}}, "
        "route: [{destination: {host: ratings, subset: v1}}]}",
    ),
    "no reviews": lambda release: policy(release, "reviews", "productpage"),
}
"""What was reported, and what is wrong then."""


def ticket(name: str, release: Release) -> tuple[str, ...]:
    """The manifests that break BookInfo as a ticket says: `lesson.rules(*ticket("no stars", release))`.

    Args:
        name: One of `TICKETS`.
        release: The Istio release that is played.

    Raises:
        SettingError: There is no such ticket.
    """
    if name not in TICKETS:
        raise SettingError(f"there is no ticket {name!r}", next_step=f"There are {', '.join(TICKETS)}.")
    return (TICKETS[name](release.version),)
