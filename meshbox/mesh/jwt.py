# SPDX-License-Identifier: Apache-2.0
"""RequestAuthentications as Envoy's JWT filter; in Istio 1.2 the origins of a Policy."""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from cryptography.hazmat.primitives.asymmetric import ec

from meshbox.contracts import View
from meshbox.mesh.envoy import Json, extension
from meshbox.mesh.key_sets import usable
from meshbox.mesh.kinds import MESH_POLICIES, POLICIES, REQUEST_AUTHENTICATIONS
from meshbox.mesh.model import Workload
from meshbox.mesh.security import effective_policy
from meshbox.mesh.snapshot import Snapshot

if TYPE_CHECKING:
    from labkit.ground.typed.security import JWTRule, PolicySpec

__all__ = ["ORIGIN_REFUSED", "is_text", "jwt_filters", "key_source", "nobodys_keys", "token_rules"]


ORIGIN_REFUSED = "Origin authentication failed."
"""What Istio 1.2 answers with 401."""

_KIND = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
_SPACED = ("scope", "permission")
_DISCOVERY = "/.well-known/openid-configuration"


@functools.cache
def nobodys_keys() -> str:
    """A set of keys with one in it, whose other half was thrown away."""
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()

    def text(number: int) -> str:
        return base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode()

    key = {"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "nobody", "x": text(numbers.x), "y": text(numbers.y)}
    return json.dumps({"keys": [key]})


def key_source(rule: JWTRule) -> str:
    """Where the keys of a rule are to be fetched from; empty where it brings them."""
    if rule.get("jwks"):
        return ""
    found = rule.get("jwksUri") or rule.get("jwks_uri") or ""
    issuer = rule.get("issuer") or ""
    # Without a word about keys, an issuer that is a URL is asked where they are.
    return found or (f"{issuer.rstrip('/')}{_DISCOVERY}" if issuer.startswith(("http://", "https://")) else "")


def token_rules(snapshot: Snapshot) -> Iterator[tuple[View, JWTRule]]:
    """Every rule about tokens there is, with the object that has it."""
    if not snapshot.legacy:
        for obj in snapshot.all(REQUEST_AUTHENTICATIONS):
            for rule in (obj.get("spec") or {}).get("jwtRules") or []:
                yield obj, rule
        return
    for policy in (*snapshot.all(POLICIES), *snapshot.all(MESH_POLICIES)):
        for rule in _origins(policy.get("spec") or {}):
            yield policy, rule


def jwt_filters(snapshot: Snapshot, workload: Workload, port: int | None = None) -> list[Json]:
    """The filter that checks tokens; none where nothing asks for it.

    Args:
        snapshot: All objects.
        workload: The proxy's.
        port: The application's port; None at gateways.
    """
    if snapshot.legacy:
        return _of_origins(snapshot, effective_policy(snapshot, workload, port) or {})
    rules = [
        rule
        for obj in snapshot.selected(REQUEST_AUTHENTICATIONS, workload)
        for rule in (obj.get("spec") or {}).get("jwtRules") or []
    ]
    rules.sort(key=lambda rule: rule.get("issuer") or "")
    if not rules:
        return []
    # Only gateways route by claims: the route was chosen before they were known.
    again: Json = {"clear_route_cache": True} if workload.proxy == "router" else {}
    # A request without a token passes: to require one is an AuthorizationPolicy's business.
    providers = {f"origins-{index}": {**_provider(snapshot, rule), **again} for index, rule in enumerate(rules)}
    each = [_any(_named(name), {"allow_missing": {}}) for name in providers]
    # Whoever has several tokens must have sound ones; where all look in the same place, one of them is enough.
    needed = each[0] if len(each) == 1 else _any(*map(_named, providers), {"requires_all": {"requirements": each}})
    everything = {"match": {"prefix": "/"}, "requires": needed}
    return [_filter(providers, [everything])]


def _filter(providers: Json, rules: list[Json]) -> Json:
    return extension(
        "envoy.filters.http.jwt_authn", _KIND, providers=providers, rules=rules, bypass_cors_preflight=True
    )


def _named(name: str) -> Json:
    return {"provider_name": name}


def _any(*requirements: Json) -> Json:
    return {"requires_any": {"requirements": list(requirements)}}


def _provider(snapshot: Snapshot, rule: JWTRule) -> Json:
    given = rule.get("jwks") or snapshot.keys.get(key_source(rule)) or ""
    # A set that Envoy does not take would cost the proxy its listener, and so the rule itself.
    keys = given if usable(given) else nobodys_keys()
    found: Json = {
        "local_jwks": {"inline_string": keys},
        "payload_in_metadata": "payload",
        "forward": bool(rule.get("forwardOriginalToken")),
        "normalize_payload_in_metadata": {
            "space_delimited_claims": list(dict.fromkeys((*_SPACED, *(rule.get("spaceDelimitedClaims") or ()))))
        },
    }
    if rule.get("issuer"):
        found["issuer"] = rule["issuer"]
    if rule.get("audiences"):
        found["audiences"] = rule["audiences"]
    if rule.get("fromHeaders"):
        found["from_headers"] = [
            {"name": h["name"], **({"value_prefix": h["prefix"]} if h.get("prefix") else {})}
            for h in rule["fromHeaders"]
            if is_text(h["name"], h.get("prefix"))
        ]
    if rule.get("fromParams"):
        found["from_params"] = rule["fromParams"]
    if rule.get("fromCookies"):
        found["from_cookies"] = rule["fromCookies"]
    if rule.get("outputPayloadToHeader") and is_text(rule["outputPayloadToHeader"]):
        found["forward_payload_header"] = rule["outputPayloadToHeader"]
    claims = [
        {"header_name": c["header"], "claim_name": c["claim"]}
        for c in rule.get("outputClaimToHeaders") or []
        if c.get("header") and c.get("claim")
    ]
    if claims:
        found["claim_to_headers"] = claims
    return found


def is_text(*texts: str | None) -> bool:
    """Whether texts may stand in a header: nothing that breaks a line, which no header has and no Envoy takes."""
    return not any(character in (text or "") for text in texts for character in "\x00\r\n")


def _origins(spec: PolicySpec) -> list[JWTRule]:
    """The origins of a Policy as today's rules: only some fields are called otherwise."""
    found = []
    for origin in spec.get("origins") or []:
        jwt: Any = (origin or {}).get("jwt") or {}
        headers = jwt.get("jwtHeaders") or jwt.get("jwt_headers") or []
        rule = {
            "issuer": jwt.get("issuer") or "",
            "audiences": jwt.get("audiences") or [],
            "jwks": jwt.get("jwks") or "",
            "jwksUri": jwt.get("jwksUri") or jwt.get("jwks_uri") or "",
            "fromHeaders": [{"name": name} for name in headers],
            "fromParams": jwt.get("jwtParams") or jwt.get("jwt_params") or [],
            # The application was given the token as it came.
            "forwardOriginalToken": True,
        }
        found.append(cast("JWTRule", rule))
    return found


def _of_origins(snapshot: Snapshot, spec: PolicySpec) -> list[Json]:
    """The filter of a Policy: unlike today, a request without a token is refused."""
    rules = _origins(spec)
    peers = [peer or {} for peer in spec.get("peers") or []]
    if peers and not spec.get("peerIsOptional") and not any("mtls" in peer for peer in peers):
        # Istio 1.2 knew no other proof of a peer's than mTLS: nobody can give what is asked for.
        impossible = {"local_jwks": {"inline_string": nobodys_keys()}}
        return [_filter({"peers": impossible}, [_at({"prefix": "/"}, _named("peers"))])]
    if not rules:
        return []
    providers = {f"origins-{index}": _provider(snapshot, rule) for index, rule in enumerate(rules)}
    choices = [_named(name) for name in providers]
    if spec.get("originIsOptional"):
        choices.append({"allow_missing_or_failed": {}})
    needed = choices[0] if len(choices) == 1 else _any(*choices)
    triggers = _triggers(spec)
    where = [*_where(triggers[0], needed)] if len(triggers) == 1 else [_at({"prefix": "/"}, needed)]
    return [_filter(providers, where)]


def _triggers(spec: PolicySpec) -> list[View]:
    """The trigger rules of a Policy with one origin; those of several are not told apart: tokens are asked for."""
    origins = spec.get("origins") or []
    if len(origins) != 1:
        return []
    jwt: Any = (origins[0] or {}).get("jwt") or {}
    return list(jwt.get("triggerRules") or jwt.get("trigger_rules") or [])


def _where(trigger: View, needed: Json) -> Iterator[Json]:
    """Where tokens are asked for: Envoy takes the first rule that matches, and none lets a request pass."""
    excluded = trigger.get("excludedPaths") or trigger.get("excluded_paths") or []
    included = trigger.get("includedPaths") or trigger.get("included_paths") or []
    for match in excluded:
        yield {"match": _path(match)}
    for match in included:
        yield _at(_path(match), needed)
    if not included:
        yield _at({"prefix": "/"}, needed)


def _at(match: Json, needed: Json) -> Json:
    return {"match": match, "requires": needed}


def _path(match: View) -> Json:
    if "exact" in match:
        return {"path": match["exact"]}
    if "prefix" in match:
        return {"prefix": match["prefix"]}
    if "suffix" in match:
        return {"safe_regex": {"regex": f".*{re.escape(str(match['suffix']))}"}}
    return {"safe_regex": {"regex": match.get("regex", "")}}
