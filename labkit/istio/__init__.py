"""Istio on a cluster: its releases, installation, way in, and what is wrong with it."""

from labkit.istio.analyze import Finding
from labkit.istio.diagnose import Diagnosis, diagnose
from labkit.istio.ingress import Ingress, ingress
from labkit.istio.install import install, uninstall
from labkit.istio.releases import NAMESPACE, facts
from labkit.istio.source import Release, download, release
from labkit.istio.verify import Verification, verify

__all__ = [
    "NAMESPACE",
    "Diagnosis",
    "Finding",
    "Ingress",
    "Release",
    "Verification",
    "diagnose",
    "download",
    "facts",
    "ingress",
    "install",
    "release",
    "uninstall",
    "verify",
]
