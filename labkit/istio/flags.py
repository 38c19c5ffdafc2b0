# SPDX-License-Identifier: Apache-2.0
"""Envoy's response flags: what the two or three letters in an access log, and in the label `response_flags`, say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FLAGS", "Flag", "flags"]


@dataclass(frozen=True)
class Flag:
    """One flag.

    Args:
        name: Envoy's long name for it.
        says: What happened.
        look: Where to look first.
    """

    name: str
    says: str
    look: str


_ROUTES = "Gateway and VirtualService: hosts, gateways, match; `istio.trace_route`"
_SUBSETS = "host and subset in the VirtualService, subsets in the DestinationRule; `istio.diagnose`"
_PODS = "pods ready? labels of Service and subset; `kubectl get endpoints,pods`"
_CONNECT = "targetPort, what the application listens on, `tls` on both sides; the line's failure reason"
_SERVER = "the server: its log, its restarts, its idle timeout; STRICT against `tls: DISABLE`"
_SLOW = "who is slow: the line's duration, hop by hop; `timeout` in the VirtualService"
_LIMITS = "`connectionPool` of the DestinationRule, and why requests take so long"
_FAULT = "`fault` in a VirtualService: left over from a test?"
_CLIENT = "the caller: its timeout, a closed browser, a load balancer before the gateway"
_PROTOCOL = "the Service's port name (or appProtocol): is it what the application speaks?"
_FILTER = "EnvoyFilter, WasmPlugin: was the extension fetched?"
_ENVOY = "the proxy's memory and load"

FLAGS = {
    "NR": Flag("NoRouteFound", "no route for this host and path, or no filter chain for this connection", _ROUTES),
    "NC": Flag("NoClusterFound", "the route leads to a cluster that this Envoy does not have", _SUBSETS),
    "UH": Flag("NoHealthyUpstream", "the cluster has no endpoint that may be asked", _PODS),
    "UF": Flag("UpstreamConnectionFailure", "no connection came about, or its TLS handshake failed", _CONNECT),
    "UC": Flag("UpstreamConnectionTermination", "the other side closed the connection before it answered", _SERVER),
    "UR": Flag("UpstreamRemoteReset", "the other side reset the stream", _SERVER),
    "UT": Flag("UpstreamRequestTimeout", "no answer within the route's timeout", _SLOW),
    "URX": Flag("UpstreamRetryLimitExceeded", "all tries failed: retries, or TCP connects, are used up", _SLOW),
    "UO": Flag("UpstreamOverflow", "a limit was reached: the circuit breaker is open", _LIMITS),
    "FI": Flag("FaultInjected", "Envoy answered with a fault, on purpose", _FAULT),
    "DI": Flag("DelayInjected", "Envoy held the request back, on purpose", _FAULT),
    "DC": Flag("DownstreamConnectionTermination", "the caller went away before the answer was there", _CLIENT),
    "DR": Flag("DownstreamRemoteReset", "the caller reset the stream", _CLIENT),
    "LR": Flag("LocalReset", "this Envoy reset the connection itself", "`connectionPool`, idle timeouts; Envoy's log"),
    "LH": Flag("FailedLocalHealthCheck", "Envoy's own health check of the service failed", _PODS),
    "UPE": Flag("UpstreamProtocolError", "the answer is not of the protocol that was expected", _PROTOCOL),
    "DPE": Flag("DownstreamProtocolError", "what the caller sent is no proper HTTP", _PROTOCOL),
    "IH": Flag("InvalidEnvoyRequestHeaders", "a header x-envoy-… has a value that is not allowed", _CLIENT),
    "RL": Flag("RateLimited", "too many requests: limited by a rule", "EnvoyFilter for rate limits"),
    "RLSE": Flag("RateLimitServiceError", "the rate limit service did not answer", "that service; `failure_mode_deny`"),
    "UAEX": Flag("UnauthorizedExternalService", "an external authorizer refused it", "AuthorizationPolicy CUSTOM"),
    "SI": Flag("StreamIdleTimeout", "nothing came for too long, on a stream that was open", _SLOW),
    "DT": Flag("DurationTimeout", "a request or connection lived longer than it may", _SLOW),
    "UMSDR": Flag("UpstreamMaxStreamDurationReached", "the stream to the server lived longer than it may", _SLOW),
    "DF": Flag("DnsResolutionFailed", "the name of the host could not be resolved", "ServiceEntry with resolution DNS"),
    "NFCF": Flag("NoFilterConfigFound", "a filter's configuration has not arrived", _FILTER),
    "RFCF": Flag("ResponseFromCacheFilter", "the answer came from Envoy's cache", "no fault: a cache filter"),
    "OM": Flag("OverloadManagerTerminated", "Envoy protects itself: it has too little memory left", _ENVOY),
    "DO": Flag("DropOverload", "dropped by a share that the control plane asked for", _ENVOY),
    "UDO": Flag(
        "UnconditionalDropOverload", "everything for this cluster is dropped, as the control plane asked", _ENVOY
    ),
}
"""By the short name that logs and metrics have. "-" is none: the answer came from the other side, or from a filter."""


def flags() -> pd.DataFrame:
    """All flags, the commonest first: index "flag" (its short name), columns name, says and look (str)."""
    import pandas as pd

    # A table is no Markdown.
    rows = [[one.name, one.says, one.look.replace("`", "")] for one in FLAGS.values()]
    index = pd.Index(list(FLAGS), name="flag", dtype="str")
    return pd.DataFrame(rows, index=index, columns=["name", "says", "look"], dtype="str")
