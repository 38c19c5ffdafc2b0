# SPDX-License-Identifier: Apache-2.0
"""What Envoy's RBAC looks for: one value of a rule."""

from __future__ import annotations

import re

from meshbox.mesh.envoy import Json

__all__ = [
    "authenticated",
    "claim",
    "filter_metadata",
    "header_match",
    "namespace",
    "principal",
    "request_principal",
    "text_match",
    "trust_domain",
    "whole_request_principal",
]

_JWT = "envoy.filters.http.jwt_authn"


def text_match(value: str, *, ignore_case: bool = False) -> Json:
    """Istio's way with "*": alone it is anything there is, at an end it stands for the rest."""
    found: Json
    if value == "*":
        return {"safe_regex": {"regex": ".+"}}
    if value.startswith("*"):
        found = {"suffix": value[1:]}
    elif value.endswith("*"):
        found = {"prefix": value[:-1]}
    else:
        found = {"exact": value}
    return {**found, "ignore_case": True} if ignore_case else found


def header_match(name: str, value: str, *, ignore_case: bool = False) -> Json:
    """The matcher of one header; "*" asks for nothing but the header."""
    if value == "*":
        return {"header": {"name": name, "present_match": True}}
    return {"header": {"name": name, "string_match": text_match(value, ignore_case=ignore_case)}}


def authenticated(matcher: Json) -> Json:
    """The matcher of an identity that a certificate names."""
    return {"authenticated": {"principal_name": matcher}}


def principal(value: str) -> Json:
    """Whose identity, without its scheme, is this."""
    if value in ("*", "") or value.startswith("*"):
        return authenticated(text_match(value or "*"))
    return authenticated(text_match(f"spiffe://{value}"))


def namespace(value: str) -> Json:
    """Whose identity is of this namespace; a star may stand anywhere."""
    pattern = re.escape(value).replace(r"\*", ".*")
    return authenticated({"safe_regex": {"regex": f".*/ns/{pattern}/.*"}})


def trust_domain(value: str) -> Json:
    """Whose identity is of this trust domain."""
    if value == "*":
        return authenticated(text_match(value))
    pattern = re.escape(value).replace(r"\*", "[^/]*")
    return authenticated({"safe_regex": {"regex": f"spiffe://{pattern}/.*"}})


def filter_metadata(name: str, key: str, value: str) -> Json:
    """What a filter has noted of a call; a value in brackets is looked for in a list."""
    matcher: Json = {"string_match": text_match(value.removeprefix("[").removesuffix("]"))}
    if value.startswith("[") and value.endswith("]"):
        matcher = {"list_match": {"one_of": matcher}}
    return {"metadata": {"filter": name, "path": [{"key": key}], "value": matcher}}


def claim(path: tuple[str, ...], matcher: Json, *, listed: bool = False) -> Json:
    """The matcher of one claim of the token that was found valid; `listed` where it may be a list."""
    keys = [{"key": "payload"}, *({"key": part} for part in path)]
    value: Json = {"string_match": matcher}
    if listed:
        # A claim may be one text or a list of them.
        value = {"or_match": {"value_matchers": [value, {"list_match": {"one_of": value}}]}}
    return {"metadata": {"filter": _JWT, "path": keys, "value": value}}


def request_principal(value: str) -> Json:
    """The principal is made of two claims, issuer and subject, which are looked at one by one: both must be there."""
    issuer, slash, subject = value.rpartition("/")
    # With no slash a beginning is of the issuer, an end of the subject, and a whole text an issuer without subject.
    if value == "*":
        issuer, subject = "*", "*"
    elif not slash:
        issuer, subject = ("*", value) if value.startswith("*") else (value, "*" if value.endswith("*") else "")
    elif value.startswith("*"):
        # Only one of the two stars means something.
        return _claims(text_match(issuer), {"exact": subject})
    else:
        return _claims({"exact": issuer}, text_match(subject) if subject.endswith("*") else {"exact": subject})
    return _claims(text_match(issuer), text_match(subject))


def _claims(issuer: Json, subject: Json) -> Json:
    return {"and_ids": {"ids": [claim(("iss",), issuer), claim(("sub",), subject)]}}


def whole_request_principal(value: str) -> Json:
    """The same as Istio 1.2 reads it: issuer, "/" and subject are one text, which a star may begin or end.

    The claims are still looked at one by one, so each "/" of the value may be the one between them.
    """
    if value == "*":
        return request_principal(value)
    text, matches = value, (_exact, _exact)
    ids: list[Json] = []
    if value.startswith("*"):
        text, matches = value[1:], (_ending, _exact)
        ids.append(_claims(text_match("*"), _ending(text)))
    elif value.endswith("*"):
        text, matches = value[:-1], (_exact, _beginning)
        ids.append(_claims(_beginning(text), text_match("*")))
    of_issuer, of_subject = matches
    for slash in re.finditer("/", text):
        ids.append(_claims(of_issuer(text[: slash.start()]), of_subject(text[slash.end() :])))
    return {"or_ids": {"ids": ids}} if ids else {"not_id": {"any": True}}


def _exact(text: str) -> Json:
    return {"exact": text}


def _beginning(text: str) -> Json:
    return {"prefix": text} if text else text_match("*")


def _ending(text: str) -> Json:
    return {"suffix": text} if text else text_match("*")
