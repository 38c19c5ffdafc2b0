# SPDX-License-Identifier: Apache-2.0
"""One verdict for one content: the webhook and the control plane ask for the same, and it is found once."""

from __future__ import annotations

from collections import OrderedDict

from meshbox.contracts import Obj
from meshbox.mesh.envoy import encode
from meshbox.mesh.istio_validation import check, looked_at
from meshbox.mesh.istio_validation.problems import Problems
from meshbox.mesh.unplayed import marks_of, unplayed

__all__ = ["Verdicts"]

_MOST = 256
"""How many are remembered: what a webhook let through comes back through the watch within a turn of the loop."""


class Verdicts:
    """What Istio says of objects.

    Args:
        legacy: Whether Istio 1.2 speaks.
    """

    def __init__(self, *, legacy: bool) -> None:
        self._legacy = legacy
        self._known: OrderedDict[tuple[str, str, str, bytes], Problems] = OrderedDict()

    def of(self, obj: Obj) -> Problems:
        """What is wrong with `obj`, as `check` finds it."""
        meta = obj["metadata"]
        # All that a check looks at: most writes after the first are of other metadata or of the status.
        marks = {**marks_of(obj, legacy=self._legacy), **looked_at(obj)}
        content = encode({"spec": obj.get("spec"), "marks": marks})
        key = (str(obj.get("kind")), str(meta.get("namespace") or ""), str(meta.get("name") or ""), content)
        if key not in self._known:
            self._known[key] = check(obj, legacy=self._legacy)
            self._known[key].unplayed = unplayed(obj, legacy=self._legacy)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]
