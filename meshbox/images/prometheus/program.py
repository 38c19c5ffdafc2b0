# SPDX-License-Identifier: Apache-2.0
"""The running Prometheus behind the door: asked, stopped and continued."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
from dataclasses import dataclass
from datetime import datetime

from labkit.ground import duration
from labkit.ground.client import Answer, Connections

__all__ = ["USER", "Program", "Scraped"]

USER = "pod"
_SECONDS = 120.0
_FINER = re.compile(r"(\.\d{6})\d+")


@dataclass(frozen=True)
class Scraped:
    """When Prometheus scraped one of its targets.

    Args:
        url: What it scrapes.
        every: Seconds between two scrapes.
        last: When the last one that has ended began, in seconds since 1970; 0 where there was none.
        answered: Whether it brought a page.
    """

    url: str
    every: float
    last: float
    answered: bool = True


class Program:
    """One Prometheus.

    Args:
        host: Where it listens.
        port: Likewise.
        password: Of the one user that it knows.
    """

    def __init__(self, host: str, port: int, password: str) -> None:
        credentials = base64.b64encode(f"{USER}:{password}".encode()).decode()
        self._authorization = f"Basic {credentials}"
        self._connections = Connections(host, port, _SECONDS)
        self._process: subprocess.Popen[bytes] | None = None

    def runs_as(self, process: subprocess.Popen[bytes]) -> None:
        """Say which process it is, once it is there."""
        self._process = process

    def ask(
        self, target: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Hand a request on, with the password.

        Raises:
            OSError: it does not answer.
        """
        # A POST is a question as well, and Prometheus closes connections that lay idle.
        given = {**(headers or {}), "Authorization": self._authorization}
        return self._connections.request(method, target, given, body, again=True)

    def scraped(self) -> list[Scraped]:
        """When each of its active targets was scraped.

        Raises:
            OSError: it does not answer.
        """
        answer = self.ask("/api/v1/targets?state=active")
        if answer.status != 200:
            raise ConnectionError(f"Prometheus answers {answer.status} to a question about its targets")
        found = json.loads(answer.body)["data"]["activeTargets"]
        return [_scraped(one) for one in found]

    def stop(self) -> None:
        """Take the processor from it: it keeps its memory and its connections."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Give it back. Whatever is due by then it does at once."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


def _scraped(target: dict[str, str]) -> Scraped:
    every = duration.from_prometheus(target["scrapeInterval"]) / 1000
    return Scraped(target["scrapeUrl"], every, _seconds(target["lastScrape"]), target["health"] == "up")


def _seconds(text: str) -> float:
    # In nanoseconds, which Python does not read; the year 1 where there was no scrape.
    return max(datetime.fromisoformat(_FINER.sub(r"\1", text)).timestamp(), 0.0)
