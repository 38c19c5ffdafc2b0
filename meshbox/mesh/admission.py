# SPDX-License-Identifier: Apache-2.0
"""What the mesh's webhooks do to writes."""

from __future__ import annotations

from meshbox.contracts import AdmissionRequest, Objects
from meshbox.mesh.discovery import overlooked
from meshbox.mesh.entry_notices import entry_warnings
from meshbox.mesh.gateway_api.route_warnings import route_warnings
from meshbox.mesh.gateway_api.unplayed import unplayed as gateway_api
from meshbox.mesh.gateway_notices import gateway_warnings
from meshbox.mesh.ingress_status import ignored
from meshbox.mesh.inject import inject, warn
from meshbox.mesh.istio_validation import validate
from meshbox.mesh.istio_validation.verdicts import Verdicts
from meshbox.mesh.kinds import CONFIG_MAPS, GATEWAY_API, GATEWAYS, INGRESSES, SERVICE_ENTRIES, TELEMETRIES
from meshbox.mesh.notices import ambient, notices
from meshbox.mesh.pilot_metrics import MeshMonitor
from meshbox.mesh.settings import settings_warnings
from meshbox.mesh.telemetry_notices import telemetry_warnings
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
        """Inject the sidecar; say of workloads what of their sidecars is not played."""
        if request.resource == "pods" and request.operation == "CREATE" and not request.subresource:
            inject(self._objects, self._settings, request, self._monitor)
        elif request.operation != "DELETE" and not request.subresource:
            warn(request, legacy=self._settings.legacy)

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse what Istio refuses; of what it takes, say what is not played here."""
        legacy = self._settings.legacy
        validate(self._objects, request, self._verdicts.of, self._monitor, legacy=legacy)
        if request.operation == "DELETE" or request.subresource:
            return
        if request.resource.endswith(".istio.io") and request.operation in ("CREATE", "UPDATE"):
            request.warnings += self._verdicts.of(request.object).unplayed
            request.warnings += notices(request.resource, request.object, legacy=legacy)
        if not legacy and request.resource.endswith((".istio.io", GATEWAY_API)):
            request.warnings += overlooked(self._objects, request.namespace or "")
        if not legacy:
            request.warnings += ambient(request.resource, request.object)
            request.warnings += gateway_api(request.resource, request.object)
            request.warnings += route_warnings(self._objects, request.resource, request.object)
        if request.resource == INGRESSES:
            request.warnings += ignored(self._objects, request.object, legacy=legacy)
        if request.resource == CONFIG_MAPS:
            request.warnings += settings_warnings(request.object, legacy=legacy)
        if request.resource == TELEMETRIES and not legacy:
            request.warnings += telemetry_warnings(self._objects, request.object)
        if request.resource == GATEWAYS:
            request.warnings += gateway_warnings(self._objects, request.object, legacy=legacy)
        if request.resource == SERVICE_ENTRIES:
            request.warnings += entry_warnings(self._objects, request.object, legacy=legacy)
