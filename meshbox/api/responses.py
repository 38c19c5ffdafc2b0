# SPDX-License-Identifier: Apache-2.0
"""Replies: which form the client asked for, and JSON on the way out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from aiohttp import web
from msgspec import Struct

from meshbox.api import refusals
from meshbox.contracts import ApiError, Obj
from meshbox.values import dumps

__all__ = [
    "Form",
    "as_yaml",
    "form_of",
    "in_yaml",
    "indent",
    "json_response",
    "readable",
    "refusal",
    "success",
    "warned",
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ALL_WARNINGS = 4096
_WARNING = 256
"""Characters of all warnings together, and of each where they would be more: the API server's own."""
_MOST_WARNINGS = 80
"""Python's http.client takes no answer of more than 100 headers."""


class Form(Struct, frozen=True):
    """How objects are to be shown: as they are, as a Table, or only their metadata."""

    kind: Literal["", "Table", "PartialObjectMetadata", "PartialObjectMetadataList", "APIGroupDiscoveryList"] = ""
    version: str = "v1"


_AS_GROUPS = {
    "Table": "meta.k8s.io",
    "PartialObjectMetadata": "meta.k8s.io",
    "PartialObjectMetadataList": "meta.k8s.io",
    "APIGroupDiscoveryList": "apidiscovery.k8s.io",
}
_VERSIONS = {"APIGroupDiscoveryList": ("v2",)}
_PLAIN = ("application/json", "application/yaml", "*/*", "application/*")


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
        if asked.get("g") == _AS_GROUPS.get(kind) and asked.get("v") in _VERSIONS.get(kind, ("v1", "v1beta1")):
            return Form(kind, asked.get("v", "v1"))  # type: ignore[arg-type]
    raise ApiError(
        406,
        "NotAcceptable",
        "only the following media types are accepted: application/json, application/yaml, "
        "application/vnd.kubernetes.protobuf",
    )


def json_response(value: Any, status: int = 200, *, content_type: str = "application/json") -> web.Response:
    """`value` as a line of JSON (bytes are JSON already)."""
    body = value if isinstance(value, bytes) else dumps(value)
    # As Go's encoder ends what it writes: a shell's prompt begins on a line of its own.
    body = body if body.endswith(b"\n") else body + b"\n"
    return web.Response(
        body=body, status=status, headers={"Content-Type": content_type, "Cache-Control": "no-cache, private"}
    )


_READERS = ("curl", "Wget", "Mozilla/5.0")
"""Clients behind which a person reads: they are sent JSON with line breaks."""


def readable(headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
    """Whether the client would like JSON with line breaks."""
    asked = query.get("pretty", "")
    return asked in ("1", "true") if asked else headers.get("User-Agent", "").startswith(_READERS)


def in_yaml(accept: str) -> bool:
    """Whether the client would rather have YAML than JSON."""
    first = next((one.split(";")[0].strip() for one in accept.split(",")), "")
    return first in ("application/yaml", "application/vnd.kubernetes.yaml")


def as_yaml(response: web.Response) -> None:
    """Turn a JSON reply into YAML, in place."""
    if response.content_type == "application/json" and isinstance(response.body, bytes):
        import yaml

        response.body = yaml.safe_dump(json.loads(response.body), allow_unicode=True).encode()
        response.content_type = "application/yaml"


def indent(response: web.Response) -> None:
    """Break the lines of a JSON reply, in place."""
    if response.content_type == "application/json" and isinstance(response.body, bytes):
        response.body = json.dumps(json.loads(response.body), indent=2, ensure_ascii=False).encode()


def warned(response: web.Response, warnings: list[str]) -> web.Response:
    """`response` with what the client should be told."""
    told = list(dict.fromkeys(warnings))[:_MOST_WARNINGS]
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


def refusal(error: ApiError, *, foreign: bool = False) -> web.Response:
    """An error as a `Status`; `foreign` says that it is about a path of no built-in group."""
    if isinstance(error, refusals.NoSuchPathError) and foreign:
        # No Status: nobody there knew what was asked for.
        return web.Response(text="404 page not found\n", status=404)
    response = json_response(error.status(), error.code)
    if error.code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if retry := error.details.get("retryAfterSeconds"):
        response.headers["Retry-After"] = str(retry)
    return response


def success(details: Obj, code: int = 200) -> web.Response:
    """The `Status` of a deletion that is done, or (201) of something that was made."""
    status: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    more = {"details": details} if details else {"code": code}
    return json_response({**status, **more}, code)
