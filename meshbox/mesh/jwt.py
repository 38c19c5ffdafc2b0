# SPDX-License-Identifier: Apache-2.0
"""RequestAuthentications as Envoy's JWT filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshbox.mesh.envoy import Json, extension
from meshbox.mesh.field_values import duration
from meshbox.mesh.kinds import REQUEST_AUTHENTICATIONS
from meshbox.mesh.model import Workload
from meshbox.mesh.snapshot import Snapshot

if TYPE_CHECKING:
    from labkit.ground.typed.security import JWTRule

__all__ = ["jwt_filters"]


_KIND = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"


def jwt_filters(snapshot: Snapshot, workload: Workload) -> list[Json]:
    """The filter that checks tokens; none where nothing asks for it.

    A request without a token passes: to require one is an AuthorizationPolicy's business. Keys must be given in the
    object (`jwks`); a rule that names an address to fetch them from is left out, since the sandbox fetches nothing.
    """
    rules = [
        rule
        for obj in (snapshot.selected(REQUEST_AUTHENTICATIONS, workload) if not snapshot.legacy else [])
        for rule in (obj.get("spec") or {}).get("jwtRules") or []
        if rule.get("jwks")
    ]
    if not rules:
        return []
    # Only gateways route by claims: the route was chosen before they were known.
    again: Json = {"clear_route_cache": True} if workload.proxy == "router" else {}
    providers = {f"origins-{index}": {**_provider(rule), **again} for index, rule in enumerate(rules)}
    choices: list[Json] = [{"provider_name": name} for name in providers]
    requirement = {"requires_any": {"requirements": [*choices, {"allow_missing": {}}]}}
    everything = {"match": {"prefix": "/"}, "requires": requirement}
    return [extension("envoy.filters.http.jwt_authn", _KIND, providers=providers, rules=[everything])]


def _provider(rule: JWTRule) -> Json:
    found: Json = {
        "local_jwks": {"inline_string": rule["jwks"]},
        "payload_in_metadata": "payload",
        "forward": bool(rule.get("forwardOriginalToken")),
    }
    if rule.get("issuer"):
        found["issuer"] = rule["issuer"]
    if rule.get("audiences"):
        found["audiences"] = rule["audiences"]
    if rule.get("fromHeaders"):
        found["from_headers"] = [
            {"name": h["name"], **({"value_prefix": h["prefix"]} if h.get("prefix") else {})}
            for h in rule["fromHeaders"]
        ]
    if rule.get("fromParams"):
        found["from_params"] = rule["fromParams"]
    if rule.get("fromCookies"):
        found["from_cookies"] = rule["fromCookies"]
    if rule.get("outputPayloadToHeader"):
        found["forward_payload_header"] = rule["outputPayloadToHeader"]
    claims = [
        {"header_name": c["header"], "claim_name": c["claim"]}
        for c in rule.get("outputClaimToHeaders") or []
        if c.get("header") and c.get("claim")
    ]
    if claims:
        found["claim_to_headers"] = claims
    if rule.get("timeout"):
        found["clock_skew_seconds"] = max(int(float(duration(rule["timeout"])[:-1])), 60)
    return found
