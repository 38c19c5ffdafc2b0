# SPDX-License-Identifier: Apache-2.0
"""An HTTPMatchRequest as Envoy's RouteMatch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshbox.mesh.envoy import Json, string_match

if TYPE_CHECKING:
    from labkit.ground.typed.virtual_services import HTTPMatchRequest, StringMatch

__all__ = ["catches_all", "header_match", "route_match"]


def catches_all(match: Json) -> bool:
    """Whether an Envoy RouteMatch takes every request, so that routes behind it are never reached."""
    if match.get("headers") or match.get("query_parameters"):
        return False
    regex = (match.get("safe_regex") or {}).get("regex")
    return match.get("prefix") == "/" or regex in (".*", "*")


def header_match(name: str, match: StringMatch, *, invert: bool = False) -> Json:
    """One header's condition; an empty match asks only that the header is there."""
    found: Json = {"name": name}
    if match.get("exact") or match.get("prefix") or match.get("regex"):
        found["string_match"] = string_match(match)
    else:
        found["present_match"] = True
    if invert:
        found["invert_match"] = True
    return found


def route_match(match: HTTPMatchRequest, *, elements: bool = False) -> Json:
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
    headers = [header_match(name, value or {}) for name, value in (match.get("headers") or {}).items()]
    for name, value in (match.get("withoutHeaders") or {}).items():
        headers.append(header_match(name, value or {}, invert=True))
    for pseudo, asked in (
        (":method", match.get("method")),
        (":authority", match.get("authority")),
        (":scheme", match.get("scheme")),
    ):
        if asked:
            headers.append(header_match(pseudo, asked))
    if headers:
        found["headers"] = headers
    parameters = [_parameter(name, value or {}) for name, value in (match.get("queryParams") or {}).items()]
    if parameters:
        found["query_parameters"] = parameters
    return found


def _parameter(name: str, match: StringMatch) -> Json:
    if match.get("exact") or match.get("prefix") or match.get("regex"):
        return {"name": name, "string_match": string_match(match)}
    if "exact" in match:
        # `exact: ""` asks for the parameter without a value.
        return {"name": name, "string_match": {"exact": ""}}
    return {"name": name, "present_match": True}
