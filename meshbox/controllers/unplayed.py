# SPDX-License-Identifier: Apache-2.0
"""Kinds of Kubernetes that are kept and listed, and of which nothing comes: whoever makes one is told."""

from __future__ import annotations

from meshbox.contracts import AdmissionRequest

__all__ = ["UnplayedKinds"]

_KINDS = {
    "certificatesigningrequests.certificates.k8s.io": "CertificateSigningRequest is signed by nobody in the sandbox",
    "flowschemas.flowcontrol.apiserver.k8s.io": "",
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io": "",
    "ipaddresses.networking.k8s.io": "",
    "servicecidrs.networking.k8s.io": "",
    "networkpolicies.networking.k8s.io": "NetworkPolicy keeps no traffic out in the sandbox",
    "runtimeclasses.node.k8s.io": "",
    "deviceclasses.resource.k8s.io": "",
    "resourceclaims.resource.k8s.io": "",
    "resourceclaimtemplates.resource.k8s.io": "",
    "resourceslices.resource.k8s.io": "",
    "csidrivers.storage.k8s.io": "",
    "csinodes.storage.k8s.io": "",
    "csistoragecapacities.storage.k8s.io": "",
    "volumeattachments.storage.k8s.io": "",
    "volumeattributesclasses.storage.k8s.io": "",
}
"""By resource: what is said, where it is more than that it has no effect."""


class UnplayedKinds:
    """Admission: warns, and refuses nothing."""

    def mutate(self, request: AdmissionRequest) -> None:
        """Change nothing."""

    def validate(self, request: AdmissionRequest) -> None:
        """Warn."""
        if request.operation == "DELETE" or request.subresource:
            return
        said = _KINDS.get(request.resource)
        if said is not None:
            request.warnings.append(said or f"{request.object['kind']} has no effect in the sandbox")
