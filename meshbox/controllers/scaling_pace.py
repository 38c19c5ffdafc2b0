# SPDX-License-Identifier: Apache-2.0
"""How fast an autoscaler may follow what its metrics ask for: `spec.behavior`, and the defaults of its fields."""

from __future__ import annotations

import math
from typing import Any

from msgspec import Struct, field

__all__ = ["Pace"]

_MINUTES = 300
_DEFAULTS: dict[str, dict[str, Any]] = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Pods", "value": 4, "periodSeconds": 15},
            {"type": "Percent", "value": 100, "periodSeconds": 15},
        ],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": _MINUTES,
        "selectPolicy": "Max",
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
    },
}


def _rules(behavior: dict[str, Any], direction: str) -> dict[str, Any]:
    given = {name: value for name, value in (behavior.get(direction) or {}).items() if value is not None}
    return {**_DEFAULTS[direction], **given}


class Pace(Struct):
    """What one autoscaler has recommended and done lately, and what it may do next."""

    recommended: list[tuple[float, int]] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)
    """When, and by how many replicas."""

    def changed(self, now: float, by: int) -> None:
        """Remember that the target was resized."""
        self.changes = [one for one in self.changes if now - one[0] < 1800]
        self.changes.append((now, by))

    def settle(self, behavior: dict[str, Any], current: int, wanted: int, now: float) -> tuple[int, str, str]:
        """The replicas that have been asked for throughout the windows of stabilization.

        Args:
            behavior: The autoscaler's; what it does not say is as everywhere.
            current: Replicas of the target.
            wanted: What the metrics ask for.
            now: Seconds since the epoch.

        Returns:
            How many; reason and message of the condition AbleToScale.
        """
        windows = {one: _rules(behavior, one)["stabilizationWindowSeconds"] for one in _DEFAULTS}
        self.recommended = [one for one in self.recommended if now - one[0] < max(windows.values())]
        up = min([wanted, *(count for when, count in self.recommended if now - when < windows["scaleUp"])])
        down = max([wanted, *(count for when, count in self.recommended if now - when < windows["scaleDown"])])
        self.recommended.append((now, wanted))
        settled = min(max(current, up), down)
        if settled > wanted:
            words = "recent recommendations were higher than current one, applying the highest recent recommendation"
            return settled, "ScaleDownStabilized", words
        if settled < wanted:
            words = "recent recommendations were lower than current one, applying the lowest recent recommendation"
            return settled, "ScaleUpStabilized", words
        return settled, "ReadyForNewScale", "recommended size matches current size"

    def limit(
        self, behavior: dict[str, Any], current: int, wanted: int, bounds: tuple[int, int], now: float
    ) -> tuple[int, str, str]:
        """`wanted` within what policies and bounds allow at once.

        Args:
            behavior: The autoscaler's.
            current: Replicas of the target.
            wanted: Replicas that are to be.
            bounds: The fewest and the most.
            now: Seconds since the epoch.

        Returns:
            How many; reason and message of the condition ScalingLimited.
        """
        low, high = bounds
        if wanted > current:
            most = self._most(_rules(behavior, "scaleUp"), current, now)
            if most < current:
                most = current
            if wanted > min(most, high):
                if high <= most:
                    return high, "TooManyReplicas", "the desired replica count is more than the maximum replica count"
                return (
                    most,
                    "ScaleUpLimit",
                    "the desired replica count is increasing faster than the maximum scale rate",
                )
        elif wanted < current:
            least = min(self._least(_rules(behavior, "scaleDown"), current, now), current)
            if wanted < max(least, low):
                if low >= least:
                    return low, "TooFewReplicas", "the desired replica count is less than the minimum replica count"
                words = "the desired replica count is decreasing faster than the maximum scale rate"
                return least, "ScaleDownLimit", words
        if wanted > high:
            return high, "TooManyReplicas", "the desired replica count is more than the maximum replica count"
        if wanted < low:
            return low, "TooFewReplicas", "the desired replica count is less than the minimum replica count"
        return wanted, "DesiredWithinRange", "the desired count is within the acceptable range"

    def _before(self, current: int, seconds: int, now: float) -> int:
        return current - sum(by for when, by in self.changes if now - when < seconds)

    def _most(self, rules: dict[str, Any], current: int, now: float) -> int:
        if rules["selectPolicy"] == "Disabled":
            return current
        counts = []
        for policy in rules["policies"]:
            began = self._before(current, policy["periodSeconds"], now)
            percent = policy["type"] == "Percent"
            counts.append(math.ceil(began * (1 + policy["value"] / 100)) if percent else began + policy["value"])
        return int(min(counts) if rules["selectPolicy"] == "Min" else max(counts))

    def _least(self, rules: dict[str, Any], current: int, now: float) -> int:
        if rules["selectPolicy"] == "Disabled":
            return current
        counts = []
        for policy in rules["policies"]:
            began = self._before(current, policy["periodSeconds"], now)
            percent = policy["type"] == "Percent"
            counts.append(int(began * (1 - policy["value"] / 100)) if percent else began - policy["value"])
        return int(max(counts) if rules["selectPolicy"] == "Min" else min(counts))
