# SPDX-License-Identifier: Apache-2.0
"""Waiting: small objects that look, with a deadline, and that give up early when there is nothing to wait for.

What can be seen of the cluster's objects is looked at when the cluster says that they changed, the rest now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from labkit.cluster.client import Obj
from labkit.cluster.explain import explain
from labkit.cluster.following import Following
from labkit.cluster.http import fetch
from labkit.cluster.objects import get
from labkit.cluster.readiness import KINDS, Readiness, judge, last_log
from labkit.ground.errors import ClusterError, NotReadyError

__all__ = ["Answers", "Condition", "Gone", "Objects", "Ready", "Wait", "wait_for"]

_LONGEST, _GROWTH = 1.25, 1.3
"""Seconds of the longest pause between two looks, and how pauses grow to that. A rule is in force after a blink, and is
looked for in small steps; looking costs the machine something too, and what takes long rarely ends within a blink."""

_REST = 0.25
"""Seconds that a look which takes so long is followed by at least."""

_FIRST = 5.0
"""Seconds that the first look may take, however short the wait."""


class Wait(Protocol):
    """Something to wait for."""

    @property
    def what(self) -> str:
        """What is waited for, as in "waiting until …"."""

    def look(self) -> str | None:
        """None once it is so; else what is seen instead.

        Raises:
            NotReadyError: It can no longer become so.
        """


class Objects:
    """Something about objects, which the cluster tells of by itself: it is looked at whenever one of them changes.

    Args:
        what: What is waited for.
        kinds: Their kinds, as kubectl takes them.
        judge: Gives None once it is so, else what is seen instead; it may be asked as well when nothing has changed.
        name: Only objects of that name; "" for all.
        namespace: Only those in it; "" for the context's own, which kinds without namespaces do not care for.
    """

    def __init__(
        self, what: str, kinds: str, judge: Callable[[list[Obj]], str | None], *, name: str = "", namespace: str = ""
    ) -> None:
        self.what, self.judge = what, judge
        self.about = kinds, name, namespace

    def look(self) -> str | None:
        """None if it is so now."""
        kinds, name, namespace = self.about
        return self.judge(get(kinds, name, namespace=namespace))


class Ready(Objects):
    """All workloads of a namespace are ready (Jobs: completed).

    Args:
        namespace: The namespace.
        names: Only these workloads, which must exist; () for all there are.
        on_look: Called with what is seen, each time and at least once a second; a widget draws itself here.
    """

    def __init__(
        self, namespace: str, names: Sequence[str] = (), on_look: Callable[[Readiness], None] | None = None
    ) -> None:
        self._namespace, self._names, self._on_look = namespace, names, on_look
        what = f"{', '.join(names) or 'all workloads'} in namespace {namespace} to be ready"
        super().__init__(what, KINDS, self._seen, namespace=namespace)

    def _seen(self, objects: list[Obj]) -> str | None:
        seen = judge(self._namespace, objects, last_log=last_log)
        if self._on_look is not None:
            self._on_look(seen)
        missing = sorted(set(self._names) - {w.name for w in seen.workloads})
        if missing:
            return f"{', '.join(missing)} not there"
        chosen = seen.only(self._names).workloads
        stuck = [w for w in chosen if w.hopeless]
        if stuck:
            raise NotReadyError(
                "\n".join(f"{w.kind} {w.name} in namespace {self._namespace}: {w.state}: {w.reason}" for w in stuck),
                next_step=f"Waiting will not help; `kubectl describe pods -n {self._namespace}` shows the cause.",
            )
        if not chosen:
            return "no workloads yet"
        # One cause may hold back all of them, and its words be long.
        alike: dict[str, list[str]] = {}
        for w in chosen:
            if not w.good:
                alike.setdefault(f"{w.state}: {w.reason}" if w.reason else w.state, []).append(w.name)
        return ", ".join(f"{', '.join(names)} ({why})" for why, names in alike.items()) or None


class Gone(Objects):
    """An object is there no longer.

    Args:
        kind: Its kind.
        name: Its name; "" for all of that kind.
        namespace: Its namespace.
    """

    def __init__(self, kind: str, name: str = "", namespace: str = "") -> None:
        where = f" in namespace {namespace}" if namespace else ""
        what = f"{kind}{'/' + name if name else ''}{where} to be gone"
        super().__init__(what, kind, self._seen, name=name, namespace=namespace)

    def _seen(self, objects: list[Obj]) -> str | None:
        return ", ".join(item["metadata"]["name"] for item in objects) + " still there" if objects else None


@dataclass
class Answers:
    """A URL answers with a status.

    Args:
        url: http://HOST:PORT/PATH.
        status: The HTTP status code wanted.
        successive: How many times in a row, so that one early answer is not taken for all of them.
    """

    url: str
    status: int = 200
    successive: int = 1

    @property
    def what(self) -> str:
        """What is waited for."""
        return f"{self.url} to answer {self.status}"

    def look(self) -> str | None:
        """None once it does."""
        for _ in range(self.successive):
            try:
                seen = fetch(self.url, timeout=5.0)
            except ClusterError as error:
                return error.message
            if seen.status != self.status:
                return f"status {seen.status}: {seen.text.strip()[:120]}"
        return None


@dataclass
class Condition:
    """Anything else.

    Args:
        what: What is waited for.
        look: Gives None once it is so, else what is seen instead.
    """

    what: str
    look: Callable[[], str | None]


def wait_for(wait: Wait, *, timeout: float = 120.0, every: float = 0.05) -> float:
    """Wait until it is so.

    Args:
        wait: What to wait for.
        timeout: Seconds until giving up; it is looked at once in any case.
        every: Seconds between the first two looks at what nobody tells of by itself, above 0; pauses grow to 1.25 s.

    Returns:
        The seconds it took.

    Raises:
        NotReadyError: The deadline passed, or `wait` can no longer come true; says what was seen last.
        ClusterError: The cluster does not answer at first. Later it may: then it is waited for.
    """
    begun = time.monotonic()
    for seen in _told(wait, begun, timeout) if isinstance(wait, Objects) else _polled(wait, begun, timeout, every):
        now = time.monotonic()
        if seen is None:
            return now - begun
        if now - begun >= timeout:
            raise NotReadyError(
                f"waited {timeout:g} s for {wait.what}; seen last: {seen}",
                # Of what is seen while one waits only this is surely the cluster's answer to a request.
                next_step=explain(wait.what, seen, 1, "").next_step
                if "failed calling webhook" in seen
                else "`kubectl get events --sort-by=.lastTimestamp` in that namespace tells what happened.",
            )
    raise AssertionError


def _polled(wait: Wait, begun: float, timeout: float, every: float) -> Iterator[str | None]:
    """What is seen at each look."""
    pause = every
    while True:
        looked = time.monotonic()
        yield wait.look()
        now = time.monotonic()
        # What is expensive to look at is left alone for as long as the look took.
        rest = max(pause - (now - looked), min(now - looked, _REST))
        time.sleep(max(0.02, min(rest, begun + timeout - now)))
        pause = min(pause * _GROWTH, max(_LONGEST, every))


def _told(wait: Objects, begun: float, timeout: float) -> Iterator[str | None]:
    """What is seen whenever the cluster tells of a change, and once a second for who shows how long it takes."""
    with Following(*wait.about) as following:
        following.wait(max(timeout, _FIRST))
        while True:
            objects = following.objects()
            seen = None if objects is None else wait.judge(objects)
            if following.silence and (objects is None or seen):
                seen = "; ".join(filter(None, (seen, following.silence)))
            yield seen
            following.wait(max(0.0, min(1.0, begun + timeout - time.monotonic())))
