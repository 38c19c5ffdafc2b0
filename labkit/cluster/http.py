"""HTTP as a lesson needs it: one request, no proxy, no redirects, an error that says what to do."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from labkit.cluster import target as targets
from labkit.ground.errors import ClusterError

__all__ = ["Response", "fetch"]


@dataclass(frozen=True)
class Response:
    """An answer.

    Args:
        status: HTTP status code.
        headers: Header fields by lower-case name.
        text: The body.
        seconds: From the start of the request to the end of the body.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    text: str = field(repr=False)
    seconds: float

    def json(self, url: str, product: str, next_step: str) -> Any:
        """The body, read as JSON.

        Args:
            url: Where `product` was looked for; for the message.
            product: Who should have answered, e.g. "Prometheus".
            next_step: What to do where it was somebody else.

        Raises:
            ClusterError: The body is no JSON.
        """
        try:
            return json.loads(self.text)
        except ValueError:
            raise ClusterError(
                f"{url} answers {self.status} without JSON: is that {product}?", next_step=next_step
            ) from None


def fetch(url: str, *, headers: Mapping[str, str] | None = None, timeout: float = 15.0) -> Response:
    """GET `url` over a connection of its own.

    Args:
        url: http://HOST:PORT/PATH.
        headers: Further header fields; "Host" replaces the URL's.
        timeout: Seconds without a byte.

    Raises:
        NoTargetError: Choosing a cluster has failed: the address may be the one of a cluster that was chosen before.
        ClusterError: Nobody answers there, or not in HTTP.
    """
    import http.client

    targets.require_no_refusal()
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ClusterError(f"{url!r} is no http:// address", next_step="Give it as http://HOST:PORT/PATH.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    begun = time.perf_counter()
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        why = str(error) or type(error).__name__
        raise ClusterError(
            f"no answer from {url}: {why}",
            next_step="Is the gateway ready (`kubectl get pods -n istio-system`), and is this its address?",
        ) from None
    finally:
        connection.close()
    fields = {name.lower(): value for name, value in answer.getheaders()}
    return Response(answer.status, fields, body, time.perf_counter() - begun)
