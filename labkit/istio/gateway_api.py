# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes Gateway API, which Istio does not bring along; definitions that are there are used as they are."""

from labkit import cluster
from labkit.istio.claims import keys_in
from labkit.istio.install import established
from labkit.istio.source import OWN

__all__ = ["install_gateway_api"]

_FILE = OWN / "gateway-api-1.5.1" / "crds.yaml"


def install_gateway_api(*, timeout: float = 120.0) -> None:
    """Teach the cluster the Gateway API v1.5.1, unless somebody else did, and wait until it is served."""
    keys, known = keys_in(_FILE), cluster.look()
    if known.whole or not any(thing.key in keys and not known.why(thing) for thing in known.things):
        cluster.apply(_FILE)
    cluster.wait_for(established("the Gateway API", [name for _, _, name in keys]), timeout=timeout)
