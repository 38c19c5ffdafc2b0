# SPDX-License-Identifier: Apache-2.0
"""The quality of service of a pod."""

from __future__ import annotations

from typing import Any

import pytest

from meshbox.api.qos import qos_class

Obj = dict[str, Any]
BOTH = {"cpu": "1", "memory": "1Gi"}


def asking(requests: Obj | None = None, limits: Obj | None = None) -> Obj:
    return {"resources": {"requests": requests or {}, "limits": limits or {}}}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"containers": [{}]}, "BestEffort"),
        ({"containers": [asking({"cpu": "0"}, {"memory": 0})]}, "BestEffort"),
        ({"containers": [asking({"ephemeral-storage": "1Gi"})]}, "BestEffort"),
        ({"containers": [asking({"cpu": "1m"})]}, "Burstable"),
        ({"containers": [{}], "initContainers": [asking({"cpu": "1m"})]}, "Burstable"),
        ({"containers": [asking(BOTH, BOTH)]}, "Guaranteed"),
        ({"containers": [asking({"cpu": "1000m", "memory": "1024Mi"}, BOTH)]}, "Guaranteed"),
        ({"containers": [asking(BOTH, BOTH), {}]}, "Burstable"),
        ({"containers": [asking(BOTH, BOTH), asking(BOTH, {"cpu": "1"})]}, "Burstable"),
        ({"containers": [asking(BOTH, BOTH), asking({"cpu": "500m"}, BOTH)]}, "Burstable"),
        ({"containers": [{}], **asking(BOTH, BOTH)}, "Guaranteed"),
        ({"containers": [asking({"cpu": "much"})]}, "BestEffort"),
    ],
)
def test_the_class_of_a_pod(spec: Obj, wanted: str) -> None:
    assert qos_class(spec) == wanted
