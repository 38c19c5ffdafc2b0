# SPDX-License-Identifier: Apache-2.0
"""ComponentStatus objects: that the parts of the control plane are well. They are one process, so who answers is."""

from __future__ import annotations

from meshbox.api.selectors import field_selector, label_selector
from meshbox.api.store import Entry
from meshbox.contracts import Obj
from meshbox.values import dumps

__all__ = ["component_statuses"]

_COMPONENTS = ("controller-manager", "etcd-0", "scheduler")


def component_statuses(*, name: str = "", labels: str = "", fields: str = "") -> list[Entry]:
    """All, or those that have this name and these labels and fields."""
    made: list[Obj] = [
        {
            "kind": "ComponentStatus",
            "apiVersion": "v1",
            "metadata": {"name": one, "creationTimestamp": None},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
        }
        for one in _COMPONENTS
        if name in ("", one)
    ]
    for match in (label_selector(labels), field_selector(fields, "componentstatuses")):
        made = [one for one in made if match is None or match(one)]
    return [Entry(one, dumps(one), 1) for one in made]
