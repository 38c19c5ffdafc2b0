"""Waiting: small objects that look, with a deadline, and that give up early when there is nothing to wait for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from labkit.cluster.http import fetch
from labkit.cluster.objects import get
from labkit.cluster.readiness import Readiness, readiness
from labkit.ground.errors import ClusterError, NotReadyError

__all__ = ["Answers", "Condition", "Gone", "Ready", "Wait", "wait_for"]


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


@dataclass
class Ready:
    """All workloads of a namespace are ready (Jobs: completed).

    Args:
        namespace: The namespace.
        names: Only these workloads, which must exist; () for all there are.
        on_look: Called with what was seen each time; a widget draws itself here.
    """

    namespace: str
    names: Sequence[str] = ()
    on_look: Callable[[Readiness], None] | None = None

    @property
    def what(self) -> str:
        """What is waited for."""
        return f"{', '.join(self.names) or 'all workloads'} in namespace {self.namespace} to be ready"

    def look(self) -> str | None:
        """None once they are."""
        seen = readiness(self.namespace)
        if self.on_look is not None:
            self.on_look(seen)
        missing = sorted(set(self.names) - {w.name for w in seen.workloads})
        if missing:
            return f"{', '.join(missing)} not there"
        chosen = seen.only(self.names).workloads
        stuck = [w for w in chosen if w.hopeless]
        if stuck:
            raise NotReadyError(
                "\n".join(f"{w.kind} {w.name} in namespace {self.namespace}: {w.state}: {w.reason}" for w in stuck),
                next_step=f"Waiting will not help; `kubectl describe pods -n {self.namespace}` shows the cause.",
            )
        if not chosen:
            return "no workloads yet"
        return (
            ", ".join(f"{w.name} ({w.state}{': ' + w.reason if w.reason else ''})" for w in chosen if not w.good)
            or None
        )


@dataclass
class Gone:
    """An object is there no longer.

    Args:
        kind: Its kind.
        name: Its name; "" for all of that kind.
        namespace: Its namespace.
    """

    kind: str
    name: str = ""
    namespace: str = ""

    @property
    def what(self) -> str:
        """What is waited for."""
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.kind}{'/' + self.name if self.name else ''}{where} to be gone"

    def look(self) -> str | None:
        """None once it is."""
        left = get(self.kind, self.name, namespace=self.namespace)
        return ", ".join(item["metadata"]["name"] for item in left) + " still there" if left else None


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


def wait_for(wait: Wait, *, timeout: float = 120.0, every: float = 0.25) -> float:
    """Look until it is so.

    Args:
        wait: What to wait for.
        timeout: Seconds until giving up.
        every: Seconds between the first two looks; the pauses grow to five times that, since looking costs the
            machine something too, and what takes long rarely ends within a blink.

    Returns:
        The seconds it took.

    Raises:
        NotReadyError: The deadline passed, or `wait` can no longer come true; says what was seen last.
    """
    begun, pause = time.monotonic(), every
    while True:
        looked = time.monotonic()
        seen = wait.look()
        now = time.monotonic()
        if seen is None:
            return now - begun
        if now - begun >= timeout:
            raise NotReadyError(
                f"waited {timeout:g} s for {wait.what}; seen last: {seen}",
                next_step="`kubectl get events --sort-by=.lastTimestamp` in that namespace tells what happened.",
            )
        time.sleep(max(0.02, min(pause - (now - looked), begun + timeout - now)))
        pause = min(pause * 1.15, every * 5)
