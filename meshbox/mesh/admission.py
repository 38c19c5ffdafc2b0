# SPDX-License-Identifier: Apache-2.0
"""What the mesh's webhooks do to writes."""

from __future__ import annotations

from meshbox.contracts import AdmissionRequest, Objects
from meshbox.mesh.inject import inject
from meshbox.mesh.istio_validation import validate
from meshbox.mesh.istio_validation.verdicts import Verdicts
from meshbox.mesh.pilot_metrics import MeshMonitor
from meshbox.settings import SandboxSettings

__all__ = ["MeshAdmission"]


class MeshAdmission:
    """Plays Istio's webhooks.

    Args:
        objects: The cluster's objects.
        settings: The sandbox.
        monitor: Counts what the webhooks are asked.
        verdicts: What Istio says of objects.
    """

    def __init__(
        self,
        objects: Objects,
        settings: SandboxSettings,
        monitor: MeshMonitor | None = None,
        verdicts: Verdicts | None = None,
    ) -> None:
        self._objects = objects
        self._settings = settings
        self._monitor = monitor or MeshMonitor()
        self._verdicts = verdicts or Verdicts(legacy=settings.legacy)

    def mutate(self, request: AdmissionRequest) -> None:
        """Inject the sidecar."""
        if request.resource == "pods" and request.operation == "CREATE" and not request.subresource:
            inject(self._objects, self._settings, request, self._monitor)

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse what Istio refuses; of what it takes, say what is not played here."""
        validate(self._objects, request, self._verdicts.of, self._monitor, legacy=self._settings.legacy)
        of_istio = request.resource.endswith(".istio.io") and not request.subresource
        if of_istio and request.operation in ("CREATE", "UPDATE"):
            request.warnings.extend(self._verdicts.of(request.object).unplayed)
