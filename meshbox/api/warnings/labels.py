# SPDX-License-Identifier: Apache-2.0
"""Labels of nodes that have other names today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.ground import names

__all__ = ["NODE_LABELS", "of_terms"]

NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
"""By label: what is said of it."""


def of_terms(path: str, term: Mapping[str, Any], *, values: bool = False) -> Iterator[str]:
    """Of a term that selects nodes; with `values`, also of what no label's value can be."""
    for index, one in enumerate(term.get("matchExpressions") or ()):
        at, key = f"{path}.matchExpressions[{index}]", one.get("key")
        if key in NODE_LABELS:
            yield f"{at}.key: {key} is {NODE_LABELS[key]}"
        for number, value in enumerate(one.get("values") or () if values else ()):
            yield from (f"{at}.values[{number}]: {value} is invalid, {why}" for why in names.label_value(value))
