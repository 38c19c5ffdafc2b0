# SPDX-License-Identifier: Apache-2.0
"""Who may call whom, but for AuthorizationPolicies: policies of both releases, as Istio's webhook looks at them."""

from __future__ import annotations

import re

from labkit.ground import reading
from meshbox.contracts import Obj
from meshbox.mesh.envoy import Json
from meshbox.mesh.istio_validation.attachment import attached, selected
from meshbox.mesh.istio_validation.problems import Problems
from meshbox.mesh.istio_validation.texts import quoted
from meshbox.mesh.istio_validation.urls import scheme

__all__ = ["peer_authentication", "policy", "request_authentication"]


def policy(obj: Obj, problems: Problems) -> None:
    """Look at a Policy or MeshPolicy of Istio 1.2."""
    spec: Json = obj.get("spec") or {}
    name = obj["metadata"].get("name", "")
    targets = spec.get("targets") or []
    mesh_wide = not obj["metadata"].get("namespace")
    if mesh_wide:
        problems.require(
            name == "default", f'cluster-scoped authentication policy name must be "default", found {quoted(name)}'
        )
        problems.require(not targets, "cluster-scoped authentication policy must not have targets")
    elif not targets:
        unnamed = 'authentication policy with no target rules  must be named "default", found '
        problems.require(name == "default", unnamed + quoted(name))
    elif name == "default":
        problems.error('authentication policy with name "default" must not have any target rules')
    for target in targets:
        target_name = (target or {}).get("name") or ""
        valid = f"target name {quoted(target_name)} must be a valid label"
        problems.require(problems.label(target_name), valid, listed=True)
        for port in (target or {}).get("ports") or []:
            _selected_port(port or {}, problems)
    issuers: set[str] = set()
    for method in [*(spec.get("peers") or []), *(spec.get("origins") or [])]:
        if isinstance((method or {}).get("jwt"), dict):
            issuer = str(method["jwt"].get("issuer") or "")
            problems.require(issuer not in issuers, f"jwt with issuer {quoted(issuer)} already defined")
            issuers.add(issuer)
            _old_jwt(method["jwt"], problems)


def _selected_port(port: Json, problems: Problems) -> None:
    """By name or by number; without either both are missed."""
    name, number = port.get("name") or "", port.get("number") or 0
    if not number:
        said = f"subset name is invalid: {name}" if name else "subset name cannot be empty"
        problems.require(problems.label(name), said)
    if number or not name:
        problems.port(number)


def _old_jwt(jwt: Json, problems: Problems) -> None:
    """Whose tokens Istio 1.2 asks for."""
    uri = str(jwt.get("jwksUri") or "")
    problems.require(jwt.get("issuer"), "issuer must be set", listed=True)
    for key, words in (
        ("audiences", "audience must be non-empty string"),
        ("jwtHeaders", "location header must be non-empty string"),
        ("jwtParams", "location query must be non-empty string"),
    ):
        if key == "jwtHeaders" and uri:
            name, odd = scheme(uri)
            odd = odd or ("" if name in ("http", "https") else f"URI scheme {quoted(name)} is not supported")
            problems.require(not odd, odd, listed=True)
        for value in jwt.get(key) or []:
            problems.require(value, words, listed=True)


def peer_authentication(obj: Obj, problems: Problems) -> None:
    """Look at a PeerAuthentication."""
    spec: Json = obj.get("spec") or {}
    ports = spec.get("portLevelMtls")
    if not (spec.get("selector") or {}).get("matchLabels") and ports:
        problems.error("mesh/namespace peer authentication cannot have port level mTLS")
    if ports is not None and not ports:
        problems.error("port level mTLS, if defined, must have at least one element")
    for port in ports or {}:
        number = int(port) if str(port).isdecimal() else 0
        problems.require(1 <= number <= 65535, "port must be in range 1..65535")
    selected(spec.get("selector"), problems)


def request_authentication(obj: Obj, problems: Problems) -> None:
    """Look at a RequestAuthentication."""
    spec: Json = obj.get("spec") or {}
    attached(spec, problems)
    for rule in spec.get("jwtRules") or []:
        _rule(rule or {}, problems)


def _rule(rule: Json, problems: Problems) -> None:
    def need(holds: object, text: str) -> None:
        problems.require(holds, text, listed=True)

    uri = str(rule.get("jwksUri") or rule.get("jwks_uri") or "")
    for audience in rule.get("audiences") or []:
        need(audience, "audience must be non-empty string")
    need(rule.get("issuer") or uri, "issuer or jwksUri must be non-empty string")
    if uri:
        name, odd = scheme(uri)
        need(not odd, odd)
        need(odd or name in ("http", "https"), f"URI scheme {quoted(name)} is not supported")
    if rule.get("jwks"):
        _jwks(str(rule["jwks"]), problems)
    for location in rule.get("fromHeaders") or []:
        need((location or {}).get("name"), "location header name must be non-empty string")
    for name in rule.get("fromParams") or []:
        need(name, "location query must be non-empty string")
    for name in rule.get("fromCookies") or []:
        need(name, "cookie name must be non-empty string")
    for claim in rule.get("outputClaimToHeaders") or []:
        header = str((claim or {}).get("header") or "")
        if not header or not (claim or {}).get("claim"):
            need(False, "outputClaimToHeaders header and claim value must be non-empty string")
        else:
            need(re.fullmatch("[-_A-Za-z0-9]+", header), f"header name {header} is not a valid header name")
    if rule.get("timeout") is not None:
        problems.duration(rule["timeout"])


def _jwks(text: str, problems: Problems) -> None:
    try:
        keys = reading.json_value(text)
    except reading.ReadingError as error:
        problems.error(f"jwks parse error: failed to unmarshal JWK set: {error.problem}", listed=True)
        return
    if not isinstance(keys, dict) or not isinstance(keys.get("keys"), list):
        problems.error("jwks parse error: failed to unmarshal JWK set: no keys found", listed=True)
        return
    for index, key in enumerate(keys["keys"]):
        if isinstance(key, dict) and key.get("d"):
            problems.warn(f"jwks key at index {index} contains private key material; only public keys are used for "
                          "verification")  # fmt: skip
