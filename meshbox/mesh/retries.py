# SPDX-License-Identifier: Apache-2.0
"""When a request is sent again: the `retries` of an HTTPRoute, else the mesh's own, else the release's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshbox.mesh.envoy import Json, extension
from meshbox.mesh.field_values import duration

if TYPE_CHECKING:
    from labkit.ground.typed.virtual_services import HTTPRetry

__all__ = ["retry_policy"]

_CONDITIONS = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"

_PREVIOUS_HOSTS = extension(
    "envoy.retry_host_predicates.previous_hosts",
    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
)
_PREVIOUS_PRIORITIES = extension(
    "envoy.retry_priorities.previous_priorities",
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
    update_frequency=2,
)


def retry_policy(asked: HTTPRetry | None, default: HTTPRetry | None, *, hashing: bool, legacy: bool) -> Json | None:
    """Envoy's RetryPolicy of a route; None where nothing is tried again.

    Args:
        asked: What the route says.
        default: What the mesh says where the route says nothing.
        hashing: Whether a hash chooses the host: then another one would not do.
        legacy: Whether Istio 1.2's rules apply.
    """
    retries = asked if asked is not None else default
    if retries is not None and int(retries.get("attempts") or 0) <= 0:
        return None
    policy: Json = {"num_retries": 2, "retry_on": _CONDITIONS, "host_selection_retry_max_attempts": 5}
    if legacy:
        policy["retry_on"] = _CONDITIONS.replace(",retriable", ",resource-exhausted,retriable")
        policy["host_selection_retry_max_attempts"] = 3
        policy["retriable_status_codes"] = [503]
    if not hashing:
        policy["retry_host_predicate"] = [_PREVIOUS_HOSTS]
    if retries is None:
        return policy
    policy["num_retries"] = retries["attempts"]
    if retries.get("retryOn"):
        policy["retry_on"], policy["retriable_status_codes"] = _conditions(retries["retryOn"])
    if retries.get("perTryTimeout"):
        policy["per_try_timeout"] = duration(retries["perTryTimeout"])
    if retries.get("backoff"):
        policy["retry_back_off"] = {"base_interval": duration(retries["backoff"])}
    if retries.get("retryRemoteLocalities"):
        policy["retry_priority"] = _PREVIOUS_PRIORITIES
    if (ignore := retries.get("retryIgnorePreviousHosts")) is not None:
        policy.pop("retry_host_predicate", None)
        if ignore:
            policy["retry_host_predicate"] = [_PREVIOUS_HOSTS]
    return policy


def _conditions(text: str) -> tuple[str, list[int]]:
    """The words and the status codes in a `retryOn`."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    codes = [int(part) for part in parts if part.isdigit()]
    words = [part for part in parts if not part.isdigit()]
    if codes and "retriable-status-codes" not in words:
        words.append("retriable-status-codes")
    return ",".join(words), codes
