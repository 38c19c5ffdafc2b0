# SPDX-License-Identifier: Apache-2.0
"""Istio on a cluster: its releases, installation, way in, what is wrong with it, and what its Envoys are told."""

from labkit.istio.access_log import Lines, access_log, follow
from labkit.istio.analyze import Finding
from labkit.istio.claims import check_unclaimed, claimed, keys_in, manifest_keys, plan, uninstall
from labkit.istio.diagnose import Diagnosis, diagnose
from labkit.istio.endpoints import endpoints
from labkit.istio.flags import FLAGS, flags
from labkit.istio.gateway_api import install_gateway_api
from labkit.istio.ingress import Ingress, ingress
from labkit.istio.inside import Inside, inside
from labkit.istio.install import install
from labkit.istio.releases import NAMESPACE, facts
from labkit.istio.source import Release, download, release
from labkit.istio.trace_route import Trace, trace_route
from labkit.istio.verify import Verification, verify

__all__ = [
    "FLAGS",
    "NAMESPACE",
    "Diagnosis",
    "Finding",
    "Ingress",
    "Inside",
    "Lines",
    "Release",
    "Trace",
    "Verification",
    "access_log",
    "check_unclaimed",
    "claimed",
    "diagnose",
    "download",
    "endpoints",
    "facts",
    "flags",
    "follow",
    "ingress",
    "inside",
    "install",
    "install_gateway_api",
    "keys_in",
    "manifest_keys",
    "plan",
    "release",
    "trace_route",
    "uninstall",
    "verify",
]
