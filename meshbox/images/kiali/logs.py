# SPDX-License-Identifier: Apache-2.0
"""A container's log, read through the API server."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from meshbox.images.kiali.sources import Kubernetes
from meshbox.images.kiali.telemetry import seconds_of

__all__ = ["log"]

Json = dict[str, Any]
_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z (.*)")
_SEVERITY = re.compile(r"\b(error|warn(?:ing)?|info|debug|fatal)\b", re.IGNORECASE)
_MOST_LINES = 5000


def log(kubernetes: Kubernetes, namespace: str, pod: str, query: dict[str, list[str]], now: float) -> Json:
    """The lines of a container's log, each with its time.

    Raises:
        SourceError: there is no such pod or container.
        ValueError: a number is none.
    """

    def one(name: str, default: str) -> str:
        return (query.get(name) or [default])[0] or default

    given = {"timestamps": "true", "tailLines": str(min(int(one("tailLines", "500")), _MOST_LINES))}
    if container := one("container", ""):
        given["container"] = container
    since = int(one("sinceTime", "0"))
    if since:
        given["sinceSeconds"] = str(max(1, int(now) - since))
    path = f"/api/v1/namespaces/{quote(namespace, safe='')}/pods/{quote(pod, safe='')}/log?{urlencode(given)}"
    duration = seconds_of(one("duration", "0s"))
    entries = [_entry(line) for line in kubernetes.text(path).splitlines()]
    if since and duration:
        entries = [entry for entry in entries if entry["timestampUnix"] <= since + duration]
    return {"logs": "\n".join(entry["message"] for entry in entries), "entries": entries}


def _entry(line: str) -> Json:
    match = _LINE.match(line)
    if match is None:
        return {"message": line, "severity": "Info", "timestamp": "", "timestampUnix": 0}
    when = datetime.fromisoformat(f"{match[1]}+00:00")
    said = _SEVERITY.search(match[3][:80])
    severity = said[1].capitalize().replace("Warning", "Warn") if said else "Info"
    shown = when.strftime("%Y-%m-%d %H:%M:%S")
    return {"message": match[3], "severity": severity, "timestamp": shown, "timestampUnix": int(when.timestamp())}
