# SPDX-License-Identifier: Apache-2.0
"""An HTTPMatchRequest as Envoy's RouteMatch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshbox.mesh.claims import claim_of
from meshbox.mesh.envoy import Json, string_match

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labkit.ground.typed.virtual_services import HTTPMatchRequest, StringMatch

__all__ = ["catches_all", "header_match", "route_match"]

_JWT = "envoy.filters.http.jwt_authn"


def catches_all(match: Json) -> bool:
    """Whether an Envoy RouteMatch takes every request, so that routes behind it are never reached."""
    if match.get("headers") or match.get("query_parameters") or match.get("dynamic_metadata"):
        return False
    return match.get("prefix") == "/" or match.get("safe_regex") == {"regex": ".*"}


def header_match(name: str, match: StringMatch, *, invert: bool = False) -> Json:
    """One header's condition; an empty match asks only that the header is there.

    Inverted, a header that is missing counts as one that does not match.
    """
    found: Json = {"name": name}
    if _asks(match):
        found["string_match"] = string_match(match)
        if invert:
            found["treat_missing_header_as_empty"] = True
    else:
        found["present_match"] = True
    if invert:
        found["invert_match"] = True
    return found


def _asks(match: StringMatch) -> bool:
    """Whether a match asks for more than that something is there; `exact: ""` asks for something that is empty."""
    regex = match.get("regex")
    return bool("exact" in match or match.get("prefix") or (regex and regex != "*"))


def _claim_match(path: tuple[str, ...], match: StringMatch, *, invert: bool) -> Json:
    """The condition on a claim of the request's token, which Envoy's JWT filter left; of a list any item will do."""
    value: Json = {"present_match": True}
    if _asks(match):
        text: Json = {"string_match": string_match(match)}
        value = {"or_match": {"value_matchers": [text, {"list_match": {"one_of": text}}]}}
    found: Json = {"filter": _JWT, "path": [{"key": key} for key in ("payload", *path)], "value": value}
    if invert:
        found["invert"] = True
    return found


def _named(asked: Mapping[str, StringMatch] | None, found: Json, *, invert: bool = False) -> None:
    """Add conditions on headers, and on claims that are written as such, to a RouteMatch."""
    for name, value in (asked or {}).items():
        if claim := claim_of(name):
            found.setdefault("dynamic_metadata", []).append(_claim_match(claim, value or {}, invert=invert))
        else:
            found.setdefault("headers", []).append(header_match(name, value or {}, invert=invert))


def route_match(match: HTTPMatchRequest, *, elements: bool) -> Json:
    """The RouteMatch of an HTTPMatchRequest; `elements` says that a prefix of the path ends where an element does."""
    found: Json = {}
    uri = match.get("uri") or {}
    if "exact" in uri:
        found["path"] = uri["exact"]
    elif elements and uri.get("prefix", "/").rstrip("/"):
        found["path_separated_prefix"] = uri["prefix"].rstrip("/")
    elif "prefix" in uri:
        found["prefix"] = uri["prefix"] or "/"
    elif "regex" in uri:
        found["safe_regex"] = {"regex": uri["regex"]}
    else:
        found["prefix"] = "/"
    if match.get("ignoreUriCase") and "safe_regex" not in found:
        found["case_sensitive"] = False
    _named(match.get("headers"), found)
    _named(match.get("withoutHeaders"), found, invert=True)
    for pseudo, asked in (
        (":method", match.get("method")),
        (":authority", match.get("authority")),
        (":scheme", match.get("scheme")),
    ):
        if asked:
            found.setdefault("headers", []).append(header_match(pseudo, asked))
    parameters = [_parameter(name, value or {}) for name, value in (match.get("queryParams") or {}).items()]
    if parameters:
        found["query_parameters"] = parameters
    return found


def _parameter(name: str, match: StringMatch) -> Json:
    if "exact" in match or match.get("prefix") or match.get("regex"):
        return {"name": name, "string_match": string_match(match)}
    return {"name": name, "present_match": True}
