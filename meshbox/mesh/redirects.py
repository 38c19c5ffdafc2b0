# SPDX-License-Identifier: Apache-2.0
"""Answers that a proxy gives by itself: the `redirect` and `directResponse` of an HTTPRoute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshbox.mesh.envoy import Json

if TYPE_CHECKING:
    from labkit.ground.typed.virtual_services import HTTPDirectResponse, HTTPRedirect

__all__ = ["CODES", "direct_response", "redirect"]

CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}
"""The codes that Envoy redirects with."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_PREFIX = "%PREFIX()%"
"""Before a redirect's `uri`: the rest stands for the prefix that was matched, and not for the whole path."""


def redirect(asked: HTTPRedirect, matched: Json, *, port: int, tls: bool) -> Json:
    """Envoy's RedirectAction.

    Args:
        asked: The redirect.
        matched: The route's match.
        port: The port that is listened on.
        tls: Whether requests come over TLS there.
    """
    fields: Json = {}
    uri = asked.get("uri") or ""
    if uri.startswith(_PREFIX) and ("prefix" in matched or "path_separated_prefix" in matched):
        if rest := uri.removeprefix(_PREFIX):
            fields["prefix_rewrite"] = rest
    elif uri:
        fields["path_redirect"] = uri
    if asked.get("authority"):
        fields["host_redirect"] = asked["authority"]
    if asked.get("scheme"):
        fields["scheme_redirect"] = asked["scheme"]
    # FROM_PROTOCOL_DEFAULT is what Envoy does where no port is said.
    number = port if asked.get("derivePort") == "FROM_REQUEST_PORT" else asked.get("port") or 0
    scheme = asked.get("scheme") or ("https" if tls else "http")
    if number and number != _DEFAULT_PORTS.get(scheme):
        fields["port_redirect"] = number
    fields["response_code"] = CODES.get(asked.get("redirectCode") or 301, "MOVED_PERMANENTLY")
    return fields


def direct_response(asked: HTTPDirectResponse) -> Json:
    """Envoy's DirectResponseAction."""
    fields: Json = {"status": asked["status"]}
    body = asked.get("body") or {}
    if "string" in body:
        fields["body"] = {"inline_string": body["string"]}
    elif "bytes" in body:
        fields["body"] = {"inline_bytes": body["bytes"]}
    return fields
