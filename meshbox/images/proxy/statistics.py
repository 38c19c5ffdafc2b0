# SPDX-License-Identifier: Apache-2.0
"""Which of Envoy's statistics a proxy keeps, and which parts of their names are labels to Prometheus."""

from __future__ import annotations

from typing import Any

from meshbox.images.context import ContainerContext
from meshbox.images.proxy.agent import Agent
from meshbox.images.proxy.status_port import looks_itself

__all__ = ["CONTROL_PLANE", "statistics"]

Json = dict[str, Any]

CONTROL_PLANE = "xds-grpc"
"""The cluster of the control plane."""

_LEGACY_MILLISECONDS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
_MILLISECONDS = (0.5, 1, *_LEGACY_MILLISECONDS, 30000, 60000, 300000, 600000, 1800000, 3600000)
_LEGACY_BYTES = (1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000)
"""Mixer makes one finite bucket more than its configuration says: from 1, eight times ten."""

# Any bars, dots and colons belong to a name; only what ends it does not.
_TAGS = {
    "cluster_name": r"^cluster(\.(.+);)",
    "http_conn_manager_prefix": r"^http\.(([^;]+);\.)",
    "authz_enforce_result": r"rbac(\.(allowed|denied))$",
    "authz_dry_run_action": r"rbac(\.istio_dry_run_(allow|deny)_)",
    "authz_dry_run_result": r"(\.shadow_(allowed|denied))$",
}
_LEGACY_TAGS = {
    "cluster_name": r"^cluster\.((.+?(\..+?\.svc\.cluster\.local)?)\.)",
    "http_conn_manager_prefix": r"^http\.(([\w.]*?_\d+)\.)",
    "authz_dry_run_result": r"(\.shadow_(allowed|denied))$",
}
"""Names had no end of their own: what is a host with dots, and no Service, is a name up to its first dot."""

_BOTH_TAGS = {
    "response_code": r"_rq(_(\d{3}))$",
    "response_code_class": r"_rq(_(\dxx))$",
    "tcp_prefix": r"^tcp\.((.*?)\.)\w+$",
    "listener_address": r"^listener\.(([_.\d]*|[_\[\]a-fA-F\d]*)\.)",
}


def statistics(context: ContainerContext, agent: Agent) -> Json:
    """Envoy's StatsConfig, for the release that is played."""
    legacy = context.settings.legacy
    times = _LEGACY_MILLISECONDS if legacy else _MILLISECONDS
    buckets = [
        *({"match": {"prefix": name}, "buckets": limits} for name, limits in agent.buckets.items()),
        {"match": {"prefix": "istio.request_duration"}, "buckets": list(times)},
        {"match": {"prefix": "istio"}, "buckets": list(_LEGACY_BYTES if legacy else _MILLISECONDS)},
    ]
    tags = (_LEGACY_TAGS if legacy else _TAGS) | _BOTH_TAGS
    return {
        # Envoy's own tags have other names, and end a Service's name at its first dot.
        "use_all_default_tags": False,
        "stats_tags": [{"tag_name": name, "regex": regex} for name, regex in tags.items()],
        "stats_matcher": {"inclusion_list": {"patterns": _kept(context, agent)}},
        "histogram_bucket_settings": buckets,
    }


def _kept(context: ContainerContext, agent: Agent) -> list[Json]:
    """As Istio's own: statistics of each cluster and listener would be 90 % of what Prometheus must keep."""
    legacy = context.settings.legacy
    control_plane = f"cluster.{CONTROL_PLANE}" if legacy else f"cluster.{CONTROL_PLANE};"
    return [
        *({"prefix": p} for p in ("istio", "cluster_manager.", "listener_manager.", "server.")),
        *({"suffix": s} for s in ("downstream_rq_active", "rbac.allowed", "rbac.denied")),
        # What policies on a dry run would have done.
        *({"suffix": f".shadow_{s}"} for s in ("allowed", "denied")),
        # What a VirtualService's `statPrefix` counts.
        *([] if legacy else [{"safe_regex": {"regex": r"vhost\..*\.route\..*"}}]),
        *agent.stats,
        # By these Envoy's own answer to a probe knows whether the application is there.
        *([{"safe_regex": {"regex": r"cluster\.app-probe-[0-9]+\.membership_.*"}}] if looks_itself(context) else []),
        *([{"suffix": "downstream_cx_active"}] if agent.until_idle else []),
        # Of the connection to the control plane, which Istio's own dashboards show.
        *({"exact": f"{control_plane}.{s}"} for s in ("upstream_cx_active", "update_attempt", "update_success")),
    ]
