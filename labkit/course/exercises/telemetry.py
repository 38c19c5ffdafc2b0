# SPDX-License-Identifier: Apache-2.0
"""Exercises on what the mesh tells of itself: a quiet log, a tag of one's own, named spans, a budget that burns."""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from labkit import bookinfo, cluster, istio
from labkit.course.checks import Check
from labkit.course.exercise import Exercise
from labkit.course.exercises.counters import gained, has_fault, jaeger_of
from labkit.ground.errors import NotReadyError
from labkit.observe import tracing

if TYPE_CHECKING:
    from labkit.course.lesson import Lesson

__all__ = ["EXERCISES"]

_FEW = 10
_MOST = 0.8
"""Of what was sent, so much has to be counted: a proxy that is told something new may lose what it counted last."""
_PAGES = 12
_CALLS = 40
"""Of which half would fail: that none does by chance happens less than once in 10¹²."""

_TRACED = """
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: mesh-default, namespace: istio-system}
spec: {tracing: [{providers: [{name: jaeger}], randomSamplingPercentage: 100}]}
"""


def _experiment(host: str, fault: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {host}, namespace: bookinfo}}
spec: {{hosts: [{host}], http: [{{fault: {{{fault}}}, route: [{{destination: {{host: {host}}}}}]}}]}}
"""


def _half(status: int) -> str:
    return f"abort: {{percentage: {{value: 50}}, httpStatus: {status}}}"


def _logs() -> dict[str, str]:
    """What the proxies of the caller, of the servers and at the door have written lately."""
    chosen = {"caller": "bookinfo -l app=ratings", "server": "bookinfo -l app=reviews"}
    chosen["gateway"] = "istio-system -l istio=ingressgateway"
    command = "logs -n {} -c istio-proxy --since=2m --tail=-1"
    return {who: cluster.kubectl(command.format(one), show=False) for who, one in chosen.items()}


def _seen(text: str) -> str:
    """What was seen, and why it may be so: of several objects for a whole namespace the oldest alone counts."""
    wide = sorted(
        (one["metadata"]["creationTimestamp"], one["metadata"]["name"])
        for one in cluster.get("telemetries.telemetry.istio.io", namespace="bookinfo")
        if not (one.get("spec") or {}).get("selector")
    )
    if len(wide) < 2:
        return text
    return (
        f"{text}; of {', '.join(name for _, name in wide)} only the oldest counts, {wide[0][1]}: all have no selector"
    )


def _kept_for() -> float:
    """Seconds for which an Envoy may keep its lines before it writes them."""
    command = ["pilot-agent", "request", "GET", "server_info"]
    said = cluster.exec("deploy/ratings-v1", command, container="istio-proxy", namespace="bookinfo", show=False)
    return float(json.loads(said)["command_line_options"]["file_flush_interval"].rstrip("s"))


def _quiet_log(lesson: Lesson) -> Iterator[Check]:
    good, bad, page = (f"look-{secrets.token_hex(6)}" for _ in range(3))
    # For its own page reviews would call ratings, in the same client's name.
    bookinfo.ask(_FEW, headers={"user-agent": good}, path="/health")
    bookinfo.ask(_FEW, headers={"user-agent": bad}, path="/no-such-page")
    cluster.fetch(f"{istio.ingress(show=False).url}/productpage", headers={"user-agent": page})
    kept, written = _kept_for(), dict[str, str]()
    # What is not there by then is not held back by anybody; to look before would tell nothing.
    time.sleep(max(1.0, 2 * kept))

    def missing() -> str | None:
        written.update(_logs())
        return None if written["server"].count(bad) >= _FEW and page in written["gateway"] else "not all are there"

    with contextlib.suppress(NotReadyError):
        cluster.wait_for(cluster.Condition("the lines", missing), timeout=max(1.0, kept))
    fine, failed = ({who: text.count(mark) for who, text in written.items()} for mark in (good, bad))
    yield Check(
        "a request that went well leaves no line",
        not any(fine.values()),
        _seen(
            f"of {_FEW} calls of reviews the caller's sidecar logged {fine['caller']}, the server's {fine['server']}"
        ),
        "`filter: {expression: …}` beside the provider; a response has a `response.code`.",
    )
    yield Check(
        "each one that failed leaves a line at the server's sidecar",
        failed["server"] == _FEW,
        f"lines of {_FEW} calls that got 404: {failed['server']}",
        "404 is a failure here: from 400 on. And `providers: [{name: envoy}]` says whose log is meant.",
    )
    yield Check(
        "and none at the caller's",
        failed["caller"] == 0,
        f"lines of {_FEW} calls: {failed['caller']}",
        "`match: {mode: SERVER}` is about requests that arrive. What is sent is another entry: `CLIENT`.",
    )
    entered = written["gateway"].count(page)
    yield Check(
        "the gateway goes on logging",
        entered == 1,
        f"lines of the one request: {entered}",
        "An object in `istio-system` is for the whole mesh; one in `bookinfo` is for that namespace.",
    )


_CALLED = 'source_workload="ratings-v1", destination_service_name="reviews"'
_COUNTED = f"""sum by (metric, reporter, purpose, source_principal) (
  label_replace(max_over_time(istio_requests_total{{{_CALLED}}}[1m]), "metric", "count", "", "")
  or label_replace(max_over_time(istio_request_duration_milliseconds_count{{{_CALLED}}}[1m]),
    "metric", "time", "", ""))"""


def _own_tag(lesson: Lesson) -> Iterator[Check]:
    def send() -> None:
        bookinfo.ask(_FEW, path="/health")
        bookinfo.ask(2 * _FEW)

    rows = gained(lesson, _COUNTED, ["metric", "reporter", "purpose", "source_principal"], send)
    for purpose, wanted in (("health", _FEW), ("work", 2 * _FEW)):
        seen = rows[(rows["metric"] == "count") & (rows["purpose"] == purpose)].groupby("reporter")["value"].sum()
        yield Check(
            f"both sides count {wanted} requests as `{purpose}`",
            set(seen.index) == {"source", "destination"} and bool(seen.between(_MOST * wanted, wanted).all()),
            _seen(", ".join(f"{side}: {count}" for side, count in seen.items()) or f'none has purpose="{purpose}"'),
            "`request.url_path == '/health' ? … : …` has one of two values. Without `mode` both sides are meant.",
        )
    named = rows[(rows["metric"] == "count") & (rows["source_principal"] != "")]["value"].sum()
    yield Check(
        "the count tells the caller's identity no more",
        bool(named == 0),
        f"{named} requests were counted with a source_principal",
        "`source_principal: {operation: REMOVE}`",
    )
    times = rows[rows["metric"] == "time"]
    changed = times[(times["purpose"] != "") | (times["source_principal"] == "")]["value"].sum()
    yield Check(
        "the durations are as they were",
        bool(changed == 0 and times["value"].sum() >= _MOST * 6 * _FEW),
        f"{changed} of {times['value'].sum()} have other tags; {6 * _FEW} are to be measured",
        "`match: {metric: REQUEST_COUNT}`: without it all metrics are meant.",
    )


def _named_spans(lesson: Lesson) -> Iterator[Check]:
    import pandas as pd

    jaeger, since = jaeger_of(lesson.release), pd.Timestamp.now(tz="UTC")
    bookinfo.load(istio.ingress(show=False).url, _PAGES, rate=50)
    claim, step = "productpage and reviews are in each trace", "Only `details` is to be silent: is there a `selector`?"
    try:
        found = tracing.arrived(jaeger, since, {"productpage": _PAGES, "reviews": _PAGES}, timeout=4)
    except NotReadyError as error:
        yield Check(claim, False, error.message, step)
        return
    yield Check(claim, True, f"{len(found)} traces")
    silent = sum(trace.passed("details") for trace in found)
    yield Check(
        "details sends no spans",
        silent == 0,
        f"it is in {silent} of {len(found)} traces",
        "`disableSpanReporting: true`, in an object whose `selector` chooses `app: details`.",
    )
    for name in ("productpage.bookinfo", "reviews.bookinfo"):
        tagged = jaeger.traces(name, start=since, tags={"team": "books"}, limit=200)
        yield Check(
            f"spans of {name} have the tag team: books",
            len(tagged) == len(found),
            _seen(f"in {len(tagged)} of {len(found)} traces"),
            "`customTags: {team: {literal: {value: books}}}`, in an object of the namespace, without a selector.",
        )


_ANSWERED = """sum by (destination_service_name, response_code) (max_over_time(
  istio_requests_total{reporter="source", destination_service_namespace="bookinfo"}[1m]))"""


def _out_of_budget(lesson: Lesson) -> Iterator[Check]:
    url = istio.ingress(show=False).url
    labels = ["destination_service_name", "response_code"]
    rows = gained(lesson, _ANSWERED, labels, lambda: bookinfo.load(url, _CALLS, rate=100))
    of_reviews = rows[rows["destination_service_name"] == "reviews"]
    failed = of_reviews[of_reviews["response_code"].str.startswith("5")]["value"].sum()
    total = of_reviews["value"].sum()
    burn = failed / max(total, 1) / 0.01
    yield Check(
        "no service burns its budget",
        bool(failed == 0 and total >= _CALLS),
        f"{failed} of {total} calls of reviews failed with 5xx: a burn rate of {burn:.0f}",
        'For which service is the share of `response_code=~"5.."` above 1 %? Its VirtualService has a fault.',
    )
    kept = {"details": has_fault("details", "abort"), "ratings": has_fault("ratings", "delay")}
    yield Check(
        "the others' experiments go on",
        all(kept.values()),
        "gone: " + ", ".join(name for name, there in kept.items() if not there) if not all(kept.values()) else "both",
        "429 says that the caller asks too often, and a slow answer is an answer: neither is an error of this SLO.",
    )


EXERCISES = (
    Exercise(
        name="quiet-log",
        title="A log that says what went wrong",
        task="""In namespace `bookinfo` every request leaves two lines, and nobody reads them. From now on:

- a request that went well leaves **no line**;
- one that was answered with 400 or more leaves one line, at the **server's** sidecar alone;
- the ingress gateway, which is in another namespace, goes on as before.""",
        hints=(
            "One Telemetry object in namespace `bookinfo`. Its `accessLogging` is a list: one entry may be for one "
            "side (`match: {mode: SERVER}`), the next for the other.",
            "`- {match: {mode: SERVER}, providers: [{name: envoy}], filter: {expression: 'response.code >= 400'}}` and "
            "`- {match: {mode: CLIENT}, providers: [{name: envoy}], disabled: true}`",
        ),
        judge=_quiet_log,
        releases=("1.30.3",),
    ),
    Exercise(
        name="own-tag",
        title="What were they asking for?",
        task="""Kubelets and load balancers ask `/health` all day, and every rate has that in it. In namespace
`bookinfo`, **`istio_requests_total`** is to tell it:

- a tag **`purpose`** with the value `health` for the path `/health`, and `work` for all else, on both sides;
- the tag `source_principal` is dropped from it;
- the other metrics stay as they are.""",
        hints=(
            "`metrics` of a Telemetry object: an override matches `metric: REQUEST_COUNT`, and has `tagOverrides`.",
            "`purpose: {value: \"request.url_path == '/health' ? 'health' : 'work'\"}` and `source_principal: "
            "{operation: REMOVE}`",
        ),
        judge=_own_tag,
        releases=("1.30.3",),
    ),
    Exercise(
        name="named-spans",
        title="Spans with a name, and none of details",
        task="""Every request is traced, and that is to stay so. But in namespace `bookinfo`

- the sidecar of **`details`** sends no spans any more;
- the spans of all others have a tag **`team`** with the value `books`.""",
        hints=(
            "Two objects: one for the namespace, one for the workload. Both inherit the provider of `mesh-default` in "
            "`istio-system`.",
            "`tracing: [{customTags: {team: {literal: {value: books}}}}]`; and with `selector: {matchLabels: {app: "
            "details}}`: `tracing: [{disableSpanReporting: true}]`.",
        ),
        judge=_named_spans,
        start=(_TRACED,),
        releases=("1.30.3",),
    ),
    Exercise(
        name="out-of-budget",
        title="Whose budget burns?",
        task="""Three teams try something in namespace `bookinfo`, and the page looks poor. The objective of each
service is that **99 % of its calls are answered without a 5xx**. One service burns its budget far too fast.

Find out which, from the mesh's counters, and take away **that** experiment. The two others stay.""",
        hints=(
            "Send some pages, and look at `sum by (destination_service_name, response_code) "
            '(rate(istio_requests_total{reporter="source"}[1m]))`. Which codes are errors of this objective?',
            "It is `reviews`: `kubectl delete virtualservice reviews -n bookinfo`.",
        ),
        judge=_out_of_budget,
        start=(
            _experiment("reviews", _half(503)),
            _experiment("details", _half(429)),
            _experiment("ratings", "delay: {percentage: {value: 100}, fixedDelay: 0.02s}"),
        ),
        releases=("1.30.3",),
    ),
)
