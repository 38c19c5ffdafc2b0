# SPDX-License-Identifier: Apache-2.0
"""The API server's own metrics: what it was asked, how it answered, how long that took, what it stores."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from aiohttp import web
from msgspec import Struct

from meshbox.api.kubelet_proxy import proxied
from meshbox.api.objects import ObjectStore
from meshbox.api.paths import Target, target_of
from meshbox.exposition import Counter, Histogram, exposition, gauge, process

__all__ = ["Answered", "RequestMonitor"]

_VERBS = {"POST": "POST", "PUT": "PUT", "PATCH": "PATCH", "DELETE": "DELETE", "GET": "GET", "HEAD": "GET"}
_WITHOUT_NAME = {"GET": "LIST", "DELETE": "DELETECOLLECTION"}
_CONNECT = frozenset({"exec", "attach", "portforward", "proxy"})
_WHAT = ("verb", "group", "version", "resource", "subresource", "scope", "component")
_SECONDS = (0.005, 0.025, 0.1, 0.5, 1, 5, 15, 60)
"""Fewer buckets than Kubernetes has: each is a series for every verb and resource."""


class Answered(Struct):
    """How a request was answered; 0 while it was not."""

    code: int = 0
    content_type: str = ""


class RequestMonitor:
    """Counts requests.

    Args:
        objects: The objects that are stored.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        legacy = self._legacy = objects.settings.legacy
        text = (
            "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, "
        )
        text += "component, and HTTP response code."
        if legacy:
            labels: tuple[str, ...] = (*_WHAT, "client", "contentType", "code")
            old = "(Deprecated) " + text
            self._counts = [
                Counter("apiserver_request_total", text, *labels),
                Counter("apiserver_request_count", old, *labels),
            ]
        else:
            labels = (_WHAT[0], "dry_run", *_WHAT[1:], "code")
            self._counts = [Counter("apiserver_request_total", text, *labels)]
        text = "Response latency distribution in seconds for each verb, group, version, resource, subresource, scope."
        self._seconds = Histogram("apiserver_request_duration_seconds", text, _SECONDS, *_WHAT)
        name = "apiserver_longrunning_gauge" if legacy else "apiserver_longrunning_requests"
        self._open = Counter(name, "Gauge of all active long-running apiserver requests.", *_WHAT, kind="gauge")

    @contextlib.contextmanager
    def watching(self, request: web.Request) -> Iterator[Answered]:
        """Count `request` when it ends; whoever answers it writes down how."""
        began, answered = time.monotonic(), Answered()
        what = self._what(request)
        if long := what[0] in ("WATCH", "CONNECT"):
            self._open.add(*what)
        try:
            yield answered
        finally:
            if long:
                self._open.add(*what, by=-1.0)
                # Most end when the client goes; by then they were well answered.
                answered.code = answered.code or 200
            if answered.code:
                self._count(request, what, answered, time.monotonic() - began)

    def _count(self, request: web.Request, what: tuple[str, ...], answered: Answered, seconds: float) -> None:
        if self._legacy:
            client = request.headers.get("User-Agent", "").partition(" ")[0]
            more: tuple[str, ...] = (*what, client, answered.content_type, str(answered.code))
        else:
            more = (what[0], request.query.get("dryRun", ""), *what[1:], str(answered.code))
        for counter in self._counts:
            counter.add(*more)
        self._seconds.observe(seconds, *what)

    def _what(self, request: web.Request) -> tuple[str, ...]:
        verb = _VERBS.get(request.method, "other")
        path = request.raw_path.partition("?")[0]
        if proxied(path) is not None:
            return "CONNECT", "", "v1", "nodes", "proxy", "resource", "apiserver"
        target = target_of(path)
        if target is None or self._objects.registry.served(target.group, target.version, target.plural) is None:
            return verb, "", "", "", "", "", "apiserver"
        scope = "resource" if target.name else "namespace" if target.namespace else "cluster"
        where = (target.group, target.version, target.plural, target.subresource, scope, "apiserver")
        return self._verb(verb, request, target), *where

    def _verb(self, verb: str, request: web.Request, target: Target) -> str:
        if target.subresource in _CONNECT:
            return "CONNECT"
        if verb == "GET" and request.query.get("watch") in ("true", "1"):
            return "WATCH"
        if verb == "PATCH" and not self._legacy and request.content_type.startswith("application/apply-patch"):
            return "APPLY"
        return verb if target.name else _WITHOUT_NAME.get(verb, verb)

    def page(self) -> str:
        """The metrics now."""
        settings, store = self._objects.settings, self._objects.store
        version = {"gitVersion" if self._legacy else "git_version": settings.kubernetes_version}
        name = "etcd_object_counts" if self._legacy else "apiserver_storage_objects"
        stored = ((resource, len(store.entries(resource))) for resource in self._objects.resources())
        counts = [({"resource": resource}, float(count)) for resource, count in stored if count]
        return exposition(
            *(counter.lines() for counter in self._counts),
            self._seconds.lines(),
            self._open.lines(),
            gauge(name, "Number of stored objects at the time of last check split by kind.", counts),
            gauge("kubernetes_build_info", "The version that this server plays.", [(version, 1.0)]),
            process(),
        )
