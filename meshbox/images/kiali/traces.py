# SPDX-License-Identifier: Apache-2.0
"""The traces tab: Jaeger's answers, in the wrapping that the console expects."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from labkit.ground.client import send
from meshbox.images.kiali.sources import SourceError

__all__ = ["Tracing"]

Json = dict[str, Any]
_LOOK_AGAIN = 10.0


class Tracing:
    """Jaeger's query API, wherever this release has it.

    Args:
        urls: Where it may be; the first that answers is it.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = tuple(urls)
        self._found: tuple[float, str] = (0.0, "")

    def url(self) -> str:
        """Its address; "" if there is none."""
        when, url = self._found
        if not url and (not when or time.monotonic() - when > _LOOK_AGAIN):
            for candidate in self._urls:
                try:
                    _fetch(f"{candidate}/api/services", timeout=2.0)
                except SourceError:
                    continue
                url = candidate
                break
            self._found = time.monotonic(), url
        return url

    def info(self) -> Json:
        """What the console is told at its start."""
        there = bool(self.url())
        info: Json = {"enabled": there, "integration": there, "url": "", "namespaceSelector": True}
        return info | {"whiteListIstioSystem": ["jaeger-query", "istio-ingressgateway"]}

    def traces(self, namespace: str, names: Sequence[str], query: Mapping[str, Sequence[str]]) -> Json:
        """The traces through the first of `names` that Jaeger knows.

        Raises:
            SourceError: Jaeger cannot be reached.
        """
        known = self._get("services")["data"] or []
        candidates = [f"{name}.{namespace}" for name in names] + list(names)
        service = next((name for name in candidates if name in known), candidates[0])
        start = int((query.get("startMicros") or ["0"])[0])
        end = int((query.get("endMicros") or ["0"])[0]) or int((time.time() + 1) * 1e6)
        given = {"service": service, "start": start or end - 3_600_000_000, "end": end}
        given["limit"] = int((query.get("limit") or ["100"])[0])
        for ours, theirs in (("tags", "tags"), ("minDuration", "minDuration")):
            value = (query.get(ours) or [""])[0]
            if value and value != "{}":
                given[theirs] = f"{value}us" if theirs == "minDuration" and value.isdigit() else value
        found = self._get(f"traces?{urlencode(given)}") if service in known else {"data": []}
        return {"data": found["data"] or [], "errors": None, "jaegerServiceName": service}

    def trace(self, identity: str) -> Json:
        """One trace.

        Raises:
            SourceError: there is none, or Jaeger cannot be reached.
        """
        found = self._get(f"traces/{quote(identity, safe='')}")["data"]
        return {"data": found[0] if found else None, "errors": None}

    def spans(self, namespace: str, names: Sequence[str], query: Mapping[str, Sequence[str]]) -> list[Json]:
        """The spans of these services, each with its trace's size, for the charts of metrics."""
        answer = self.traces(namespace, names, query)
        service = answer["jaegerServiceName"]
        found = []
        for trace in answer["data"]:
            for span in trace["spans"]:
                if trace["processes"][span["processID"]]["serviceName"] == service:
                    found.append(span | {"traceSize": len(trace["spans"]), "process": {"serviceName": service}})
        return found

    def errors(self, namespace: str, name: str, query: Mapping[str, Sequence[str]]) -> int:
        """How many traces hold an error."""
        tagged = dict(query) | {"tags": ['{"error":"true"}']}
        return len(self.traces(namespace, [name], tagged)["data"])

    def _get(self, path: str) -> Json:
        url = self.url()
        if not url:
            raise SourceError("there is no Jaeger in this cluster")
        try:
            return _fetch(f"{url}/api/{path}")
        except SourceError:
            self._found = (0.0, "")
            raise


def _fetch(url: str, timeout: float = 10.0) -> Json:
    try:
        answer = send(url, headers={"Accept": "application/json"}, timeout=timeout)
        content: Json = json.loads(answer.body)
    except (OSError, ValueError) as error:
        raise SourceError(f"Jaeger does not answer at {urlsplit(url).netloc}: {error}") from error
    if answer.status != 200:
        raise SourceError(f"Jaeger answers {answer.status}", answer.status)
    return content
