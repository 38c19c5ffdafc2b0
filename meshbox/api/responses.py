# SPDX-License-Identifier: Apache-2.0
"""Replies: which form the client asked for, and JSON on the way out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web

from meshbox.api.store import dumps
from meshbox.contracts import ApiError, Obj

__all__ = ["Form", "form_of", "json_response", "refusal", "success", "warned"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ALL_WARNINGS = 4096
_WARNING = 256
"""Characters of all warnings together, and of each where they would be more: the API server's own."""


@dataclass(frozen=True)
class Form:
    """How objects are to be shown: as they are, as a Table, or only their metadata."""

    kind: Literal["", "Table", "PartialObjectMetadata", "PartialObjectMetadataList", "APIGroupDiscoveryList"] = ""
    version: str = "v1"


_AS_GROUPS = {
    "Table": "meta.k8s.io",
    "PartialObjectMetadata": "meta.k8s.io",
    "PartialObjectMetadataList": "meta.k8s.io",
    "APIGroupDiscoveryList": "apidiscovery.k8s.io",
}
_PLAIN = ("application/json", "*/*", "application/*")


def form_of(accept: str) -> Form:
    """The first form in an Accept header that this server can give.

    Raises:
        ApiError: 406 where there is none.
    """
    if not accept.strip():
        return Form()
    for choice in accept.split(","):
        media, *parameters = (part.strip() for part in choice.split(";"))
        if media not in _PLAIN:
            continue
        asked = dict(part.split("=", 1) for part in parameters if "=" in part)
        kind = asked.get("as", "")
        if not kind:
            return Form()
        if asked.get("g") == _AS_GROUPS.get(kind) and (kind != "APIGroupDiscoveryList" or asked.get("v") == "v2"):
            return Form(kind, asked.get("v", "v1"))  # type: ignore[arg-type]
    raise ApiError(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json",
    )


def json_response(value: Any, status: int = 200, *, content_type: str = "application/json") -> web.Response:
    """`value` as JSON (bytes are JSON already)."""
    body = value if isinstance(value, bytes) else dumps(value)
    return web.Response(
        body=body, status=status, headers={"Content-Type": content_type, "Cache-Control": "no-cache, private"}
    )


def warned(response: web.Response, warnings: list[str]) -> web.Response:
    """`response` with what the client should be told."""
    told = list(dict.fromkeys(warnings))
    longest = _WARNING if sum(map(len, told)) > _ALL_WARNINGS else _ALL_WARNINGS
    room = _ALL_WARNINGS
    for text in told:
        room -= len(short := text[:longest])
        if room < 0:
            break
        escaped = _CONTROL.sub(" ", short).replace("\\", "\\\\").replace('"', '\\"')
        printable = escaped.encode("ascii", "replace").decode()
        response.headers.add("Warning", f'299 - "{printable}"')
    return response


def refusal(error: ApiError) -> web.Response:
    """An error as a `Status`."""
    response = json_response(error.status(), error.code)
    if error.code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if retry := error.details.get("retryAfterSeconds"):
        response.headers["Retry-After"] = str(retry)
    return response


def success(details: Obj) -> web.Response:
    """The `Status` of a deletion that is done."""
    return json_response(
        {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
    )
