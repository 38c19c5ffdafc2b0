# SPDX-License-Identifier: Apache-2.0
"""What istiod says of one proxy at /debug/syncz: the mesh makes it, and the stand-in hands it on."""

from __future__ import annotations

__all__ = ["SYNCZ"]

SYNCZ = {
    "cluster_id": "Kubernetes",
    "proxy": "web-1.bookinfo",
    "proxy_type": "sidecar",
    "istio_version": "1.30.3",
    "cluster_sent": "3",
    "cluster_acked": "3",
    "listener_sent": "2",
    "listener_acked": "1",
    "endpoint_sent": "7",
    "endpoint_acked": "7",
    "route_sent": "4",
    "route_acked": "3",
    "refused": "RDS",
}
"""How many versions of each kind it was sent and has taken: it has yet to take listeners, and refused a route."""
