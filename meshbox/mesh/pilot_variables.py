# SPDX-License-Identifier: Apache-2.0
"""What istiod is told by variables of its container, beside the mesh's settings: most of it changes nothing here."""

from __future__ import annotations

from collections.abc import Iterator

from meshbox.contracts import Obj
from meshbox.mesh.revisions import is_istiod

__all__ = ["variables_unplayed"]

_KNOWN = (
    *("CA_TRUSTED_NODE_ACCOUNTS", "CLUSTER_ID", "GOMAXPROCS", "GOMEMLIMIT", "KUBECONFIG", "PLATFORM"),
    *("POD_NAME", "POD_NAMESPACE", "REVISION", "SERVICE_ACCOUNT", "ENABLE_NATIVE_SIDECARS", "PILOT_HTTP10"),
    *("PILOT_ENABLE_CONFIG_DISTRIBUTION_TRACKING", "PILOT_TRACE_SAMPLING"),
)
"""What is played, and what says where istiod runs, as every installation does."""

_USUAL = {
    "PILOT_CERT_PROVIDER": "istiod",
    "PILOT_ENABLE_ALPHA_GATEWAY_API": "true",
    "PILOT_ENABLE_ANALYSIS": "false",
    "PILOT_ENABLE_IP_AUTOALLOCATE": "true",
    "VERIFY_CERTIFICATE_AT_CLIENT": "true",
}
"""What says no more than what is so anyway."""


def variables_unplayed(pod: Obj) -> Iterator[str]:
    """What variables of istiod's own pod, or of its template, ask for in vain, each in a sentence."""
    if not is_istiod(pod):
        return
    for container in (pod.get("spec") or {}).get("containers") or []:
        for one in container.get("env") or []:
            name, value = one.get("name"), str(one.get("value") or "")
            if value and name not in _KNOWN and value.lower() != _USUAL.get(name):
                yield f"istiod's variable {name} is not played by this sandbox"
