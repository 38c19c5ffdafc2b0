# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a request to a JSON value; what is wrong with them is said in words."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from labkit.ground import reading
from meshbox.api import refusals

__all__ = ["APPLY_PATCH", "BODY_LIMIT", "PROTOBUF", "parse", "read"]

BODY_LIMIT = reading.MOST_BYTES
"""Bytes of a request's body that the API server takes."""

BODY_SECONDS = 34.0
"""Within which a body must have come, however little comes at a time; the API server's own time for a request."""

APPLY_PATCH = "application/apply-patch+yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"


async def read(request: web.Request) -> bytes:
    """The body of `request`.

    Raises:
        ApiError: 413 where it is larger than the server takes, 408 where it does not come in time.
    """
    if (request.content_length or 0) > BODY_LIMIT:
        raise refusals.too_large(BODY_LIMIT)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                if len(body) + len(chunk) > BODY_LIMIT:
                    raise refusals.too_large(BODY_LIMIT)
                body += chunk
    except web.RequestPayloadError:
        raise refusals.bad_request("the body of the request is cut off, or its chunks are malformed") from None
    except TimeoutError:
        raise refusals.timeout(f"the body of the request did not arrive within {BODY_SECONDS:.0f}s") from None
    return bytes(body)


def parse(
    body: bytes, content_type: str, duplicates: list[str] | None = None, warnings: list[str] | None = None
) -> Any:
    """The JSON value that `body` holds.

    Args:
        body: What was sent.
        content_type: Its media type, without parameters.
        duplicates: Filled with the paths of fields that appear twice (JSON only).
        warnings: Filled with what was left out of it and the client should be told (protobuf only).

    Raises:
        ApiError: 400 where it is not of that type.
    """
    if content_type == PROTOBUF:
        from meshbox.api.codec import decode

        return decode(body, warnings)
    try:
        if content_type.endswith("yaml"):
            return reading.yaml_value(body)
        return reading.json_value(body, repeated=duplicates)
    except reading.ReadingError as error:
        raise refusals.bad_request(_words(error, content_type)) from None


def _words(error: reading.ReadingError, content_type: str) -> str:
    if error.problem.startswith("it "):
        return f"the body of the request {error.problem.removeprefix('it ')}"
    if not content_type.endswith("yaml"):
        begin = "the body of the request is not valid JSON: "
        if "patch" in content_type:
            begin = "" if "strategic" in content_type else "error decoding patch: "
        return f"{begin}{error.problem}"
    decoding = "error decoding YAML: " if content_type == APPLY_PATCH else ""
    return f"{decoding}error converting YAML to JSON: yaml: {error}"
