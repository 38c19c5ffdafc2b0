# SPDX-License-Identifier: Apache-2.0
"""Fields that hold a number or a text: counts that may be percentages, ports that may be names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from labkit.ground.names import regex_words
from labkit.ground.numbers import whole

__all__ = ["named_port", "percent", "percent_problem", "scaled", "target_port"]

_PERCENT = "[0-9]+%"
_PERCENT_WORDS = regex_words(
    "a valid percent string must be a numeric string followed by an ending '%'", _PERCENT, "1%", "93%"
)
_MOST = 2**63 - 1


def percent_problem(text: str) -> str:
    """Why `text` is not a percentage such as "25%", in Kubernetes' words; "" where it is one."""
    return "" if re.fullmatch(_PERCENT, text) else _PERCENT_WORDS


def percent(text: str) -> int:
    """The number in "25%"; at most 2⁶³ - 1.

    Raises:
        ValueError: it is not a percentage.
    """
    if problem := percent_problem(text):
        raise ValueError(problem)
    number = whole(text[:-1])
    return _MOST if number is None else number


def scaled(value: int | str | None, total: int, *, up: bool) -> int:
    """A count as it is, or a percentage of `total`; None is 0.

    Args:
        value: 3 or "25%".
        total: What "100%" means.
        up: Whether a fraction is rounded up, as of maxSurge, or down, as of a Deployment's maxUnavailable.

    Raises:
        ValueError: a text that is not a percentage.
    """
    if not isinstance(value, str):
        return value or 0
    share = percent(value) * total
    return -(-share // 100) if up else share // 100


def named_port(containers: Iterable[Mapping[str, Any]], name: str, protocol: str = "") -> int | None:
    """The number of the port that is called `name` in the first container that has one; None where none has.

    Args:
        containers: Of a pod.
        name: Of the port.
        protocol: "TCP", "UDP" or "SCTP"; "" for any.
    """
    for container in containers:
        for port in container.get("ports") or ():
            if port.get("name") == name and protocol in ("", port.get("protocol") or "TCP"):
                return int(port["containerPort"])
    return None


def target_port(port: Mapping[str, Any], pod_spec: Mapping[str, Any]) -> int | None:
    """Where a pod listens for one port of a Service; None where it has no port of the name that is asked for.

    Args:
        port: An item of the Service's `ports`.
        pod_spec: The pod's spec; init containers that go on running count as well.
    """
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    sidecars = [one for one in pod_spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    return named_port([*(pod_spec.get("containers") or ()), *sidecars], target, port.get("protocol") or "TCP")
