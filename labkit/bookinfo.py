# SPDX-License-Identifier: Apache-2.0
"""BookInfo, Istio's sample application: deploy it, read its page, send it requests."""

from __future__ import annotations

import contextlib
import html
import re
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from labkit import cluster, display
from labkit.ground.errors import SettingError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MANIFEST", "TITLE", "WORKLOADS", "Page", "ask", "deploy", "load", "page", "parse", "version_of"]

TITLE = "Simple Bookstore App"
MANIFEST = "samples/bookinfo/platform/kube/bookinfo.yaml"
WORKLOADS = ("details-v1", "productpage-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3")

_STARS_OF = {"none": "v1", "black": "v2", "red": "v3"}
_SORRY = re.compile(r"(?:Sorry, product [^<]*|Ratings service is currently unavailable)")
# Around its stars the page of 2019 has <font color="red">, today's an element of class text-red-500.
_COLOUR = re.compile(r"""(?:<font color=["']?|\btext-)(red|black)\b""")
_SERVED_BY = re.compile(r"reviews-(v\d+)-")
_ANSWER = re.compile(r"(.*?)\n=(\d{3})\n", re.S)


class _Release(Protocol):
    @property
    def path(self) -> Path: ...


@dataclass(frozen=True)
class Page(display.Shown):
    """What a reader sees on the product page.

    Args:
        status: HTTP status code.
        title: The page's title; "" without one.
        stars: "none", "black" or "red"; "" where the reviews are missing.
        reviews: The version of reviews that served it: "v1", "v2" or "v3"; "" where unknown.
        errors: The apologies shown in place of a part.
        seconds: How long it took.
    """

    status: int
    title: str
    stars: str
    reviews: str
    errors: tuple[str, ...]
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether all of it is there."""
        return self.status == 200 and self.title == TITLE and bool(self.reviews) and not self.errors

    def rich(self) -> display.Rich:
        """In words, to show."""
        seen = (
            f"status {self.status}, title {self.title!r}, {self.stars.replace('none', 'no') or 'no reviews, no'} stars"
        )
        seen += f": reviews {self.reviews}" if self.reviews else ""
        seen += f", {self.seconds * 1000:.0f} ms"
        return display.message("\n".join((seen, *self.errors)), "good" if self.good else "bad")


def deploy(release: _Release, namespace: str = "bookinfo", *, timeout: float = 300.0) -> None:
    """Deploy BookInfo with sidecars, and wait until it is ready.

    Args:
        release: The Istio release whose sample to apply.
        namespace: Made if it is not there, and labelled for injection.
        timeout: Seconds.

    Raises:
        ClusterError: The cluster refused it.
        NotReadyError: It was not ready in time.
    """
    if not cluster.exists("namespace", namespace):
        cluster.kubectl(f"create namespace {namespace}")
    cluster.kubectl(f"label namespace {namespace} istio-injection=enabled --overwrite")
    cluster.apply(release.path / MANIFEST, namespace=namespace)
    cluster.wait_for(cluster.Ready(namespace, WORKLOADS), timeout=timeout)


def page(url: str, *, headers: Mapping[str, str] | None = None, timeout: float = 20.0) -> Page:
    """Get the product page and read it.

    Args:
        url: The gateway's address, http://HOST:PORT, or the page's own.
        headers: Further header fields, such as {"Cookie": "…"}.
        timeout: Seconds without a byte.

    Raises:
        ClusterError: Nobody answers there.
    """
    answer = cluster.fetch(_page_url(url), headers=headers, timeout=timeout)
    return parse(answer.text, answer.status, answer.seconds)


def parse(text: str, status: int = 200, seconds: float = 0.0) -> Page:
    """Read a product page; both its looks, of 2019 and of today, are understood."""
    title = re.search(r"<title>\s*(.*?)\s*</title>", text, re.S)
    errors = tuple(dict.fromkeys(html.unescape(found.strip()) for found in _SORRY.findall(text)))
    missing = status != 200 or any("reviews" in error for error in errors)
    served_by = _SERVED_BY.search(text)
    stars = "" if missing else "none"
    star = text.find("glyphicon-star")
    if stars and star >= 0:
        stars = (["black", *_COLOUR.findall(text, 0, star)])[-1]
    if missing:
        reviews = ""
    elif served_by is not None:
        reviews = served_by[1]
    else:
        # With its ratings missing a page shows no stars, whichever version served it.
        reviews = "" if errors else _STARS_OF[stars]
    return Page(status, title[1] if title else "", stars, reviews, errors, seconds)


def load(
    url: str,
    n: int = 100,
    *,
    rate: float = 50.0,
    headers: Mapping[str, str] | None = None,
    workers: int = 8,
    timeout: float = 20.0,
) -> pd.DataFrame:
    """Send requests for the product page at a steady rate.

    Args:
        url: The gateway's address, http://HOST:PORT, or the page's own.
        n: How many, 1 to 100 000.
        rate: Requests a second, above 0; if the page is slower, as quick as `workers` connections allow.
        headers: Further header fields.
        workers: Connections, 1 to 64; each is kept open.
        timeout: Seconds without a byte before a request counts as failed.

    Returns:
        One row a request, in the order sent: time (datetime64[ns, UTC], when it was sent), status (int64; 0 without an
        answer), latency (float64, seconds), reviews (str: "v1", "v2", "v3" or ""), error (str; "" if it was answered).

    Raises:
        SettingError: A number is out of its range.
        NoTargetError: Choosing a cluster has failed.
    """
    from concurrent.futures import ThreadPoolExecutor

    import pandas as pd

    if not (1 <= n <= 100_000 and rate > 0 and 1 <= workers <= 64):
        raise SettingError(
            f"load(n={n}, rate={rate:g}, workers={workers}) is out of range",
            next_step="n from 1 to 100000, rate above 0 a second, workers from 1 to 64.",
        )
    cluster.require_no_refusal()
    target, sent = _page_url(url), dict(headers or {})
    begun = time.perf_counter()
    with (
        contextlib.closing(_Page(target, sent, timeout)) as page,
        ThreadPoolExecutor(workers) as pool,
        display.progress(n, f"GET {target}", "request") as step,
    ):

        def one(index: int) -> tuple[float, int, float, str, str]:
            # The n-th request has its time, however long those before it took.
            time.sleep(max(0.0, begun + index / rate - time.perf_counter()))
            row = page.get()
            step()
            return row

        rows = list(pool.map(one, range(n)))
    frame = pd.DataFrame(rows, columns=["time", "status", "latency", "reviews", "error"])
    frame["time"] = pd.to_datetime(frame["time"], unit="s", utc=True).astype("datetime64[ns, UTC]")
    return frame.sort_values("time", ignore_index=True)


def ask(
    n: int = 30,
    *,
    headers: Mapping[str, str] | None = None,
    path: str = "/reviews/0",
    caller: str = "ratings-v1",
    show: bool = False,
) -> dict[str, int]:
    """Ask reviews from inside the mesh, and count who answers: the sidecar beside the caller decides that.

    Args:
        n: How many times, 1 to 1000, one after the other.
        headers: Further header fields, such as {"end-user": "jason"}.
        path: What is asked for.
        caller: The Deployment whose pod asks, with the curl that it has.
        show: Whether to show the command and each answer.

    Returns:
        How often each answered: "v1", "v2", "v3"; a status such as "404" or "503" for what was no 200, "?" for an
        answer that does not tell its version.

    Raises:
        SettingError: `n` is out of its range.
        ClusterError: The caller is not there, or nobody answers.
    """
    if not 1 <= n <= 1000:
        raise SettingError(f"ask({n}) is out of range", next_step="n from 1 to 1000.")
    fields = [word for name, value in (headers or {}).items() for word in ("-H", f"{name}: {value}")]
    url = f"http://reviews:9080{path}{'&' if '?' in path else '?'}[1-{n}]"
    command = ["curl", "-s", *fields, "-w", r"\n=%{http_code}\n", url]
    said = cluster.exec(
        f"deploy/{caller}", command, container=caller.partition("-")[0], namespace="bookinfo", show=show
    )
    found = Counter(version_of(text) if status == "200" else status for text, status in _ANSWER.findall(said))
    return dict(sorted(found.items()))


def version_of(text: str) -> str:
    """Which version an answer of reviews' own API is from: "v1", "v2" or "v3"; "?" where it does not tell."""
    if served_by := _SERVED_BY.search(text):
        return served_by[1]
    # Reviews of 2019 does not say who it is, but its stars do.
    if '"reviewer"' not in text or '"error"' in text:
        return "?"
    colour = re.search(r'"color": *"(\w+)"', text)
    return _STARS_OF.get(colour[1] if colour else "none", "?")


class _Page:
    """The page, over a pool of connections."""

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float) -> None:
        from labkit.ground.client import Connections

        parts = urlsplit(url)
        self._path = parts.path
        self._headers = {**headers, "Connection": "keep-alive"}
        self._connections = Connections(parts.hostname or "", parts.port or 80, timeout)

    def get(self) -> tuple[float, int, float, str, str]:
        sent, begun = time.time(), time.perf_counter()
        try:
            # Each request counts once, so none is sent twice.
            answer = self._connections.request("GET", self._path, self._headers, again=False)
        except OSError as error:
            return sent, 0, time.perf_counter() - begun, "", str(error) or type(error).__name__
        taken = time.perf_counter() - begun
        return sent, answer.status, taken, parse(answer.text, answer.status).reviews, ""

    def close(self) -> None:
        self._connections.close()


def _page_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise SettingError(
            f"{url!r} is no http:// address", next_step="Give the gateway's, as `istio.ingress().url` has it."
        )
    return url if parts.path not in ("", "/") else f"http://{parts.netloc}/productpage"
