# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes Gateway API, which Istio does not bring along; definitions that are there are used as they are."""

from labkit import cluster
from labkit.istio.claims import keys_in
from labkit.istio.install import established
from labkit.istio.source import OWN

__all__ = ["install_gateway_api", "uninstall_gateway_api"]

_FILE = OWN / "gateway-api-1.5.1" / "crds.yaml"


def _theirs() -> list[cluster.Thing]:
    keys, known = keys_in(_FILE), cluster.look()
    return [] if known.whole else [thing for thing in known.things if thing.key in keys and not known.why(thing)]


def install_gateway_api(*, timeout: float = 120.0) -> None:
    """Teach the cluster the Gateway API v1.5.1, unless somebody else did, and wait until it is served."""
    if not _theirs():
        cluster.apply(_FILE)
    names = [name for _, _, name in keys_in(_FILE)]
    cluster.wait_for(established("the Gateway API", names), timeout=timeout)


def uninstall_gateway_api() -> None:
    """Remove the Gateway API's definitions, and with them every Gateway and route; `ClusterError` if not ours."""
    if theirs := _theirs():
        raise cluster.refuse(theirs, "the course did not install the Gateway API", "Whoever did may remove it.")
    cluster.delete(_FILE)
