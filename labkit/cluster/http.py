# SPDX-License-Identifier: Apache-2.0
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


def fetch(
    url: str, *, headers: Mapping[str, str] | None = None, timeout: float = 15.0, post: str | None = None
) -> Response:
    """GET `url` over a connection of its own, or POST something there.

    Args:
        url: http://HOST:PORT/PATH.
        headers: Further header fields; "Host" replaces the URL's.
        timeout: Seconds without a byte.
        post: What to POST; None for a GET.

    Raises:
        NoTargetError: Choosing a cluster has failed: the address may be the one of a cluster that was chosen before.
        ClusterError: Nobody answers there, or not in HTTP.
    """
    from labkit.cluster.forward import not_passed_on
    from labkit.ground.client import send

    targets.require_no_refusal()
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ClusterError(f"{url!r} is no http:// address", next_step="Give it as http://HOST:PORT/PATH.")
    begun = time.perf_counter()
    try:
        answer = send(url, "GET" if post is None else "POST", headers, post, timeout=timeout)
    except OSError as error:
        raise not_passed_on(parts.port) or ClusterError(
            f"no answer from {url}: {str(error) or type(error).__name__}",
            next_step="Is the gateway ready (`kubectl get pods -n istio-system`), and is this its address?",
        ) from None
    fields = {name.lower(): value for name, value in answer.headers}
    return Response(answer.status, fields, answer.text, time.perf_counter() - begun)
