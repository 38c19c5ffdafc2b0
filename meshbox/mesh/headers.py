# SPDX-License-Identifier: Apache-2.0
"""Header manipulation of VirtualServices as Envoy's fields."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from labkit.ground.typed.virtual_services import HeaderOperations, HTTPRoute, HTTPRouteDestination

from meshbox.mesh.envoy import Json

__all__ = ["headers_fields", "literal", "set_authority"]


# The operators a learner may rightly use in a header's value. An unknown one, or a lone "%", would make Envoy refuse
# the whole route table, so it is sent as the text it is.
_OPERATOR = re.compile(
    r"%%|%(?:(?:REQ|RESP)\([^()%?]*(?:\?[^()%?]*)?\)(?::\d+)?"
    r"|(?:DYNAMIC_METADATA|UPSTREAM_METADATA|PER_REQUEST_STATE)\([^()%]*\)(?::\d+)?"
    r"|PROTOCOL|REQUEST_DURATION|RESPONSE_DURATION|RESPONSE_CODE|RESPONSE_FLAGS|HOSTNAME|ROUTE_NAME"
    r"|START_TIME(?:\([^()]*\))?|(?:DOWNSTREAM|UPSTREAM)_(?:LOCAL|REMOTE)_(?:ADDRESS|PORT|ADDRESS_WITHOUT_PORT)"
    r"|DOWNSTREAM_PEER_(?:URI_SAN|SUBJECT|ISSUER|SERIAL|FINGERPRINT_256)|UPSTREAM_HOST|UPSTREAM_CLUSTER"
    r"|REQUESTED_SERVER_NAME|VIRTUAL_CLUSTER_NAME)%"
)


def literal(value: str) -> str:
    """`value` for an Envoy header: known operators and "%%" stay, every other "%" means itself."""
    parts = []
    last = 0
    for match in _OPERATOR.finditer(value):
        parts += [value[last : match.start()].replace("%", "%%"), match.group()]
        last = match.end()
    return "".join([*parts, value[last:].replace("%", "%%")])


def _added(operations: HeaderOperations, old: dict[str, str] | None, *, request: bool) -> list[Json]:
    found = []
    for action, wanted in (
        ("OVERWRITE_IF_EXISTS_OR_ADD", operations.get("set")),
        ("APPEND_IF_EXISTS_OR_ADD", operations.get("add")),
    ):
        for name, value in (wanted or {}).items():
            # The authority is rewritten, not added to; other pseudo-headers are not for anyone to set.
            if name.startswith(":") or (request and name.lower() == "host"):
                continue
            found.append({"header": {"key": name, "value": literal(str(value))}, "append_action": action})
    for name, value in (old or {}).items():
        if not name.startswith(":"):
            entry = {"header": {"key": name, "value": literal(str(value))}}
            found.append({**entry, "append_action": "APPEND_IF_EXISTS_OR_ADD"})
    return found


def set_authority(rule: HTTPRoute | HTTPRouteDestination) -> str:
    """The host that requests of a rule, or of one of its destinations, are given; empty where they keep theirs."""
    request = (rule.get("headers") or {}).get("request") or {}
    named = [str(value) for name, value in (request.get("set") or {}).items() if name.lower() in ("host", ":authority")]
    return named[-1] if named else ""


def headers_fields(rule: HTTPRoute | HTTPRouteDestination) -> Json:
    """The `headers` of an HTTPRoute or of one of its destinations (and Istio 1.1's older fields for the same)."""
    headers = rule.get("headers") or {}
    request, response = headers.get("request") or {}, headers.get("response") or {}
    # (Only a whole rule has these, the oldest.)
    older: dict[str, str] = cast("HTTPRoute", rule).get("appendHeaders") or {}
    old = {**older, **(rule.get("appendRequestHeaders") or {})}
    fields: Json = {
        "request_headers_to_add": _added(request, old, request=True),
        "request_headers_to_remove": [
            name
            for name in [*(request.get("remove") or []), *(rule.get("removeRequestHeaders") or [])]
            if not name.startswith(":") and name.lower() != "host"
        ],
        "response_headers_to_add": _added(response, rule.get("appendResponseHeaders"), request=False),
        "response_headers_to_remove": [
            name
            for name in [*(response.get("remove") or []), *(rule.get("removeResponseHeaders") or [])]
            if not name.startswith(":")
        ],
    }
    return {key: value for key, value in fields.items() if value}
