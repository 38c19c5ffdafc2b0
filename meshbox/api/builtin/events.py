# SPDX-License-Identifier: Apache-2.0
"""What no table tells of events: those that have a moment of their own are asked more than old ones."""

from __future__ import annotations

from labkit.ground.names import dns1123_subdomain, qualified_name
from meshbox.api.builtin.rules import Context, call
from meshbox.api.builtin.well_formed import as_dict
from meshbox.api.problems import Cause, invalid, required
from meshbox.contracts import Obj

__all__: list[str] = []

_LONGEST = 128


@call("event")
def _event(event: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    meta = as_dict(event.get("metadata"))
    namespace, involved = meta.get("namespace"), as_dict(event.get("involvedObject")).get("namespace") or ""
    new = context.version.startswith("events.k8s.io/")
    moment = event.get("eventTime") is not None
    if involved != namespace and (not moment or not involved) and (involved or namespace != "default"):
        causes.append(invalid("involvedObject.namespace", involved, "does not match event.namespace"))
    if moment or new:
        _reported(event, "reportingController" if new else "reportingComponent", causes)
    if new:
        _written_new(event, meta, causes)


def _reported(event: Obj, field: str, causes: list[Cause]) -> None:
    by = event.get("reportingComponent") or ""
    causes += [required(field)] if not by else []
    causes += [invalid(field, by, words) for words in qualified_name(by)]
    for name in ("reportingInstance", "action", "reason"):
        text = event.get(name) or ""
        if not text:
            causes.append(required(name))
        elif len(text) > _LONGEST:
            causes.append(invalid(name, "", f"can have at most {_LONGEST} characters"))


def _written_new(event: Obj, meta: Obj, causes: list[Cause]) -> None:
    """What is asked of those that are written as events.k8s.io/v1."""
    name, series, kind = meta.get("name") or "", event.get("series"), event.get("type") or ""
    causes += [invalid("metadata.name", name, words) for words in (dns1123_subdomain(name) if name else ())]
    if event.get("eventTime") is None:
        causes.append(required("eventTime"))
    if series is not None:
        if (series.get("count") or 0) < 2:
            causes.append(invalid("series.count", "", "should be at least 2"))
        if series.get("lastObservedTime") is None:
            causes.append(required("series.lastObservedTime"))
    if kind not in ("Normal", "Warning"):
        causes.append(invalid("type", "", f"has invalid value: {kind}"))
