# SPDX-License-Identifier: Apache-2.0
"""The keys by which tokens are checked, fetched as the control plane fetches them: for its proxies, and ever again.

Until keys are there, and where they cannot be had, proxies are given a key that nobody has: no token passes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import re
import socket
import ssl
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct, field

from labkit.ground import reading
from labkit.ground.client import Answer, Connections
from labkit.ground.hosts import DOMAIN
from meshbox.contracts import Objects, View
from meshbox.images.extauthz.keys import KEYS
from meshbox.mesh.field_values import ConfigError, nanoseconds
from meshbox.mesh.jwt import key_source, token_rules
from meshbox.mesh.key_sets import usable
from meshbox.mesh.secrets import system_roots
from meshbox.mesh.snapshot import Snapshot

if TYPE_CHECKING:
    from labkit.ground.typed.security import JWTRule
    from meshbox.mesh.model import Service

__all__ = ["KeyFetcher", "fetch"]

log = logging.getLogger(__name__)

REFRESH = 1200.0
"""Seconds after which keys are fetched again."""

_AT_ONCE = 4
"""Key sets that are fetched at a time."""

AGAIN, LONGEST_PAUSE = 1.0, 60.0
"""Seconds until what failed is tried again; doubled each time."""

MOST_BYTES = 1024 * 1024
WAIT, LONGEST_WAIT = 5.0, 30.0
"""Seconds that an answer is waited for, unless a rule says otherwise, and at most."""

_PUBLISHED = re.compile(r"https://raw\.githubusercontent\.com/istio/istio/[^/]+/security/tools/jwt/samples/jwks\.json")
_DISCOVERY = "/.well-known/openid-configuration"


class _Source(Struct):
    """One place that keys come from.

    Args:
        wait: Seconds a fetch may take.
        users: The objects that name it, with the issuer each means.
        near: What of the cluster the place is, if it lies inside: where that changes, a new try is worth it.
        task: Fetches.
        problem: Why the last fetch failed.
    """

    wait: float
    users: list[tuple[View, str]]
    near: Hashable
    task: asyncio.Task[None] | None = None
    problem: str = ""
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class KeyFetcher:
    """Keeps the keys that RequestAuthentications (in Istio 1.2: Policies) ask for.

    Args:
        objects: The cluster's objects.
        snapshot: The objects as proxies know them.
        changed: Called when keys are others than before.
        component: Who speaks in events.
    """

    def __init__(
        self, objects: Objects, snapshot: Callable[[], Snapshot], changed: Callable[[], None], component: str
    ) -> None:
        self._objects, self._snapshot, self._changed = objects, snapshot, changed
        self._component = component
        self._sources: dict[str, _Source] = {}
        self.keys: dict[str, str] = {}
        # Of its own: whoever answers a byte at a time must not hold the threads that others need.
        self._threads = ThreadPoolExecutor(_AT_ONCE, "jwks")

    def follow(self) -> None:
        """Fetch what is asked for now, and forget what is not."""
        snapshot = self._snapshot()
        wanted = _wanted(snapshot)
        for place in [place for place in self._sources if place not in wanted]:
            task = self._sources.pop(place).task
            if task is not None:
                task.cancel()
            self.keys.pop(place, None)
        for place, source in wanted.items():
            known = self._sources.get(place)
            if known is None:
                self._sources[place] = source
                source.task = asyncio.get_running_loop().create_task(self._keep(place, source))
                continue
            fresh = {id(user) for user, _ in source.users} - {id(user) for user, _ in known.users}
            known.wait, known.users = source.wait, source.users
            if known.problem and fresh:
                self._tell(place, known)
            if known.near != source.near:
                known.near = source.near
                if known.problem:
                    known.wake.set()

    async def stop(self) -> None:
        """End."""
        tasks = [source.task for source in self._sources.values() if source.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _keep(self, place: str, source: _Source) -> None:
        pause, loop = AGAIN, asyncio.get_running_loop()
        while True:
            try:
                keys = await loop.run_in_executor(self._threads, fetch, self._snapshot(), place, source.wait)
            except (OSError, ValueError, reading.ReadingError) as error:
                problem = _words(error)
                if _PUBLISHED.fullmatch(place) and place not in self.keys:
                    # Istio's own tasks use these, and have to go well without a network.
                    self.keys[place] = json.dumps(KEYS)
                    self._changed()
                if problem != source.problem:
                    source.problem = problem
                    self._tell(place, source)
                rest, pause = pause, min(2 * pause, LONGEST_PAUSE)
            else:
                source.problem, rest, pause = "", REFRESH, AGAIN
                if self.keys.get(place) != keys:
                    self.keys[place] = keys
                    self._changed()
            source.wake.clear()
            try:
                await asyncio.wait_for(source.wake.wait(), rest)
            except TimeoutError:
                continue

    def _tell(self, place: str, source: _Source) -> None:
        known = "the keys fetched before stay in force" if place in self.keys else "its tokens are refused (401)"
        if _PUBLISHED.fullmatch(place):
            known = "those that Istio publishes with its samples are taken, as the sandbox knows them"
        for user, issuer in source.users:
            of = f"the keys of issuer {issuer}" if issuer else "keys"
            message = f"{of} cannot be fetched from {place}, {known}: {source.problem}"
            log.warning("%s %s: %s", user.get("kind"), user["metadata"]["name"], message)
            self._objects.event(user, "Warning", "JwksFetchFailed", message, self._component)


def _words(error: Exception) -> str:
    """Why a fetch failed, for whoever wrote where to fetch from."""
    if isinstance(error, reading.ReadingError):
        return f"what was answered is no JSON: {error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS is spoken there ({error.reason})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "that is no URL, or names no host"


def _wanted(snapshot: Snapshot) -> dict[str, _Source]:
    found: dict[str, _Source] = {}
    for obj, rule in token_rules(snapshot):
        place = key_source(rule)
        if not place:
            continue
        source = found.setdefault(place, _Source(WAIT, [], _near(snapshot, place)))
        source.users.append((obj, rule.get("issuer") or ""))
        source.wait = _wait(rule)
    return found


def _wait(rule: JWTRule) -> float:
    try:
        # Fetching takes a thread of the few that there are: no rule may keep one for hours.
        return min(nanoseconds(rule["timeout"]) / 10**9, LONGEST_WAIT) if rule.get("timeout") else WAIT
    except ConfigError:
        return WAIT


def _service(snapshot: Snapshot, host: str) -> Service | None:
    """The Service that the control plane finds by a name: its own namespace's go by their first word."""
    name, _, rest = host.lower().rstrip(".").partition(".")
    namespace, _, domain = rest.partition(".")
    if domain not in ("", "svc", DOMAIN):
        return None
    found = snapshot.by_host.get(f"{name}.{namespace or snapshot.mesh.root_namespace}.{DOMAIN}")
    return found if found is not None and found.kubernetes else None


def _port(place: str) -> int:
    parts = urlsplit(place)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _near(snapshot: Snapshot, place: str) -> Hashable:
    try:
        service, port = _service(snapshot, urlsplit(place).hostname or ""), _port(place)
    except ValueError:
        # No URL: whoever fetches says so.
        return None
    return tuple((e.address, e.port) for e in service.endpoints.get(port, ())) if service else None


def _addresses(snapshot: Snapshot, place: str) -> Iterator[tuple[str, int]]:
    """Where a URL leads to.

    Raises:
        OSError: nowhere, or to something of this machine that is no part of the cluster.
    """
    host, port = urlsplit(place).hostname or "", _port(place)
    service = _service(snapshot, host)
    if service is not None:
        for endpoint in service.endpoints.get(port, ()):
            yield endpoint.address, snapshot.plan.port(endpoint.port)
        if service.port(port) is None:
            raise ConnectionError(f"Service {service.namespace}/{service.name} has no port {port}")
        raise ConnectionError(f"Service {service.namespace}/{service.name} has no ready endpoints")
    if f".{host.rstrip('.')}".endswith(".localhost"):
        raise ConnectionError("connection refused: the control plane's own pod serves no keys")
    # A name, or a number in another form, may lead to this machine just as its address does.
    for *_, (found, *_) in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        address = ipaddress.ip_address(str(found).partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_loopback or address.is_unspecified:
            if address not in snapshot.plan.pod_cidr:
                raise ConnectionError("connection refused: no pod has this address")
            yield str(address), snapshot.plan.port(port)
            return
    yield host, port


def fetch(snapshot: Snapshot, place: str, wait: float) -> str:
    """The set of keys at `place`, or where the discovery document at `place` says.

    Raises:
        OSError: nobody answers, or not with keys; the message says what was seen.
        ReadingError: what came is no JSON.
    """
    if place.endswith(_DISCOVERY):
        document = reading.json_value(_get(snapshot, place, wait))
        found = document.get("jwks_uri") if isinstance(document, Mapping) else None
        if not isinstance(found, str) or not found.startswith(("http://", "https://")):
            raise ConnectionError("its discovery document has no jwks_uri")
        place = found
    text = _get(snapshot, place, wait)
    keys = reading.json_value(text)
    if not isinstance(keys, Mapping) or not isinstance(keys.get("keys"), list) or not keys["keys"]:
        raise ConnectionError("what was answered holds no keys")
    if not usable(text):
        raise ConnectionError("what was answered holds no key by which tokens can be checked")
    return text


def _get(snapshot: Snapshot, place: str, wait: float) -> str:
    parts = urlsplit(place)
    address, port = next(_addresses(snapshot, place))
    trust = _trust if parts.scheme == "https" else None
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with Connections(address, port, wait, trust=trust, most=MOST_BYTES) as connections:
        headers = {"Host": parts.netloc.rpartition("@")[2], "Connection": "close", "Accept": "application/json"}
        answer: Answer = connections.request("GET", target, headers)
    if answer.status != 200:
        raise ConnectionError(f"status {answer.status}")
    return answer.text


def _trust() -> ssl.SSLContext:
    roots = system_roots()
    return ssl.create_default_context(cadata=roots or None)
