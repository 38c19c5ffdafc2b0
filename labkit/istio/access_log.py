# SPDX-License-Identifier: Apache-2.0
"""What proxies have written of requests: the access log of one of them, and all lines about one request.

Both of Istio's text formats are read (2019's has no details), and its JSON. A request is known again by the header
x-request-id, which applications pass on as they do for traces.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from labkit import cluster, display
from labkit.ground.errors import ClusterError, NotReadyError
from labkit.istio.envoy.admin import CONTAINER, Proxy, find, has_proxy, of_pod, running
from labkit.istio.flags import FLAGS
from labkit.istio.ingress import ingress

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Line", "Lines", "access_log", "follow"]

_WORD = re.compile(r'\[([^\]]*)\]|"([^"]*)"|(\S+)')
_MANY = 80
"""Lines of each log in which a request is looked for."""

_LATE = 12.0
"""Seconds after which an Envoy has written down what it did: it may gather lines for ten."""

_REST = 0.1

_REACHED = {"DI", "UT", "URX"}
"""Flags that leave no doubt that the other side got the request; with UF beside it URX is no such flag."""


_HEAD = ("start_time", "request", "response_code", "response_flags")
_TAIL = [
    *("upstream_transport_failure_reason", "bytes_received", "bytes_sent", "duration", "upstream_service_time"),
    *("x_forwarded_for", "user_agent", "request_id", "authority", "upstream_host", "upstream_cluster"),
    *("upstream_local_address", "downstream_local_address", "downstream_remote_address", "requested_server_name"),
]
_FORMATS = {
    len(fields): fields
    for fields in (
        [*_HEAD, "mixer_status", *_TAIL],
        [*_HEAD, "response_code_details", "connection_termination_details", *_TAIL, "route_name"],
    )
}
"""What the words of a line are, by their number: 2019's format, and today's."""


@dataclass(frozen=True)
class Line:
    """What a proxy wrote of one request.

    Args:
        workload: Whose proxy.
        time: When the request began.
        way: "in" to the application beside the proxy, "out" from it (and at a gateway).
        request: "GET details:9080/details/0"; "bytes" where the proxy did not look at requests.
        status: The HTTP status; 0 without an answer.
        flags: Envoy's response flags.
        details: Envoy's own word on where the answer comes from; "" in 2019's format.
        failure: Why no connection came about; "" if one did.
        upstream: "address:port" that was asked; "" where nobody was.
        seconds: How long it took.
        request_id: What all lines about a request share.
        agent: The caller's User-Agent.
        peer: The workload behind `upstream`; "" where it is not known.
    """

    workload: str
    time: datetime
    way: str
    request: str
    status: int
    flags: tuple[str, ...]
    details: str
    failure: str
    upstream: str
    seconds: float
    request_id: str
    agent: str
    peer: str = ""

    @property
    def own(self) -> bool:
        """Whether this proxy gave the answer itself, and passed none on."""
        return bool(set(self.flags) - {"DI"}) or not self.upstream

    @property
    def left(self) -> bool:
        """Whether its caller had gone away before there was an answer."""
        return "DC" in self.flags

    @property
    def says(self) -> str:
        """In words."""
        words = [f"{flag}: {FLAGS[flag].says}" if flag in FLAGS else flag for flag in self.flags]
        if not words:
            other = "the application" if self.way == "in" else self.peer or self.upstream
            words = ["this proxy answered itself" if self.own else f"answered by {other}"]
        if self.own and self.details not in ("", "via_upstream"):
            words.append(self.details)
        return "; ".join([*words, self.failure] if self.failure and self.failure not in self.details else words)


def read(text: str, workload: str) -> Line | None:
    """A line of an access log; None for a line of another kind."""
    if text.startswith("{"):
        try:
            found = {name: "" if value is None else str(value) for name, value in json.loads(text).items()}
        except (ValueError, AttributeError):
            return None
        found["request"] = f"{found.get('method', '-')} {found.get('path', '-')} {found.get('protocol', '')}"
    else:
        words = ["".join(groups) for groups in _WORD.findall(text)]
        found = dict(zip(_FORMATS.get(len(words), ()), words, strict=False))
    said = {name: "" if value == "-" else value for name, value in found.items()}
    try:
        begun = datetime.fromisoformat(said["start_time"].replace("Z", "+00:00"))
        status, took = int(said["response_code"] or 0), float(said["duration"] or 0) / 1000
    except (KeyError, ValueError):
        return None
    method, _, rest = said["request"].partition(" ")
    path = rest.rpartition(" ")[0]
    return Line(
        workload,
        begun,
        "in" if said.get("upstream_cluster", "").startswith("inbound|") else "out",
        "bytes" if method == "-" else f"{method} {said.get('authority', '')}{path}",
        status,
        tuple(flag for flag in said.get("response_flags", "").split(",") if flag),
        said.get("response_code_details", ""),
        said.get("upstream_transport_failure_reason", ""),
        said.get("upstream_host", ""),
        took,
        said.get("request_id", ""),
        said.get("user_agent", ""),
    )


class Lines(display.Shown, Sequence[Line]):
    """Lines of access logs, in the order in which the requests began.

    Args:
        lines: The lines.
        status: What came back to who asked, as `follow` did; 0 where nothing was asked.
    """

    def __init__(self, lines: Iterable[Line], status: int = 0) -> None:
        # Of two that began in the same millisecond, the one that waited for the other took longer; unless it gave up,
        # which the other hears of a moment later.
        self._lines = sorted(lines, key=lambda line: (line.time, line.left, -line.seconds, line.way == "in"))
        self.status = status

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> Line:  # type: ignore[override]
        return self._lines[index]

    @property
    def died(self) -> Line | None:
        """The first line in which a proxy answered with an error itself: there the request died. None: in no proxy.

        Where somebody's caller has gone away the request had died before: that counts only if nothing else is known.
        """
        found = [one for one in self if one.own and (one.status >= 400 or (not one.status and one.flags))]
        return min(found, key=lambda one: one.left, default=None)

    @property
    def flags(self) -> set[str]:
        """All flags in them."""
        return {flag for one in self for flag in one.flags}

    def table(self) -> pd.DataFrame:
        """One row a line: time (datetime64[ns, UTC]), status (int64), seconds (float64); workload, way, request, flags
        (joined by commas), details, failure, upstream and says (str)."""
        import pandas as pd

        names = ["time", "workload", "way", "request", "status", "flags", "seconds", "details", "failure", "upstream"]
        rows = [[*(getattr(one, name) for name in names), one.says] for one in self]
        frame = pd.DataFrame(rows, columns=[*names, "says"])
        frame["flags"] = frame["flags"].map(",".join)
        types = {"status": "int64", "seconds": "float64", "time": "datetime64[ns, UTC]"}
        return frame.astype({name: types.get(name, "str") for name in frame})

    def rich(self) -> display.Rich:
        """As a table to show; where the request died is marked."""
        if not self:
            return display.message("No lines: nobody came this way, or its proxies write no access log.", "note")
        rows = [
            {
                "": display.SYMBOLS["bad"] if one is self.died else "",
                "Proxy of": one.workload,
                "Way": one.way,
                "Request": one.request,
                "Status": one.status or "-",
                "Flags": ",".join(one.flags) or "-",
                "ms": f"{one.seconds * 1000:.0f}",
                "In words": one.says,
            }
            for one in self
        ]
        return display.table(rows, ["", "Proxy of", "Way", "Request", "Status", "Flags", "ms", "In words"])


def access_log(workload: str, *, last: int = 10, namespace: str = "bookinfo") -> Lines:
    """The last requests in the access log of a workload's proxy.

    Args:
        workload: Whose, as for `istio.inside`: "reviews-v1", an app, "ingress".
        last: How many lines of its log are looked at, from 1.
        namespace: The workload's.

    Returns:
        The lines; what is no line of an access log is left out.

    Raises:
        SettingError: There is no such workload; says which there are.
        ClusterError: The cluster does not answer.
    """
    return Lines(_lines(find(workload, namespace), last))


def follow(
    path: str,
    *,
    until: str = "",
    headers: Mapping[str, str] | None = None,
    namespaces: Sequence[str] = ("bookinfo",),
    timeout: float = 120.0,
) -> Lines:
    """Send a request to the ingress gateway, and gather what every proxy on its way has written of it.

    Args:
        path: What is asked for, "/productpage".
        until: Send it again until it dies with this flag, "NC", or one of the lines has this status, "403", or one of
            several, "NC 403": a rule needs a moment to arrive. "-" until it dies nowhere; "" sends one.
        headers: Further header fields.
        namespaces: Where the proxies are, beside the gateway's.
        timeout: Seconds.

    Raises:
        ClusterError: The gateway does not answer, or writes no access log.
        NotReadyError: No such line came in time.
    """
    url, deadline = f"{ingress(show=False).url}{path}", time.monotonic() + timeout
    gateway = find("ingress", "")
    while True:
        mark = f"labkit-{secrets.token_hex(8)}"
        try:
            status = cluster.fetch(url, headers={**(headers or {}), "User-Agent": mark}).status
        except ClusterError:
            # A gateway that opens its port just now is waited for too.
            if not until or time.monotonic() >= deadline:
                raise
        else:
            lines = Lines(_about(gateway, mark, namespaces), status)
            if not until or _shows(lines, until):
                return lines
            if time.monotonic() >= deadline:
                seen = ", ".join(sorted(lines.flags)) or "no flag"
                raise NotReadyError(
                    f"no proxy wrote {until} of {path} within {timeout:g} s; the last answer: {status}, {seen}",
                    next_step="Is the rule there? `istio.diagnose()`, `kubectl get virtualservices -n bookinfo`.",
                )
        time.sleep(_REST)


def _shows(lines: Lines, until: str) -> bool:
    if until == "-":
        return lines.died is None
    # A flag of the rules before may still be there beside it, of another call for the same page.
    flags = lines.died.flags if lines.died else lines.flags
    return bool(set(until.split()) & {*flags, *(str(one.status) for one in lines)})


def _about(gateway: Proxy, mark: str, namespaces: Sequence[str]) -> list[Line]:
    """The lines about the request with this User-Agent, once those are there that have to be."""
    deadline = time.monotonic() + _LATE
    while True:
        at_gate = [one for one in _lines(gateway, _MANY) if one.agent == mark]
        if at_gate:
            known = at_gate[0].request_id
            there = [one for namespace in namespaces for one in cluster.get("pods", namespace=namespace)]
            pods = [of_pod(one) for one in there if has_proxy(one) and running(one)]
            found = {pod.ip: [one for one in _lines(pod, _MANY) if one.request_id == known] for pod in pods}
            lines = [*at_gate, *(one for of in found.values() for one in of)]
            # Whoever was reached has a line of its own, which may come later, also where nobody waited for the answer.
            asked = {_address(one) for one in lines if one.way == "out" and one.upstream and {*one.flags} <= _REACHED}
            if all(found.get(ip, True) for ip in asked) or time.monotonic() >= deadline:
                names = {pod.ip: pod.workload for pod in pods}
                return [replace(one, peer=names.get(_address(one), "")) for one in lines]
        elif time.monotonic() >= deadline:
            raise ClusterError(
                f"the ingress gateway wrote no line of this request within {_LATE:g} s",
                next_step="Does the mesh write access logs (`meshConfig.accessLogFile: /dev/stdout`)?",
            )
        time.sleep(_REST)


def _address(line: Line) -> str:
    return line.upstream.rpartition(":")[0]


def _lines(proxy: Proxy, last: int) -> list[Line]:
    """The lines at the end of a proxy's log; none where it has none, as it has just begun or ended."""
    said = ""
    with contextlib.suppress(ClusterError):
        said = cluster.log(proxy.pod, CONTAINER, namespace=proxy.namespace, last=last)
    return [found for one in said.splitlines() if (found := read(one, proxy.workload)) is not None]
