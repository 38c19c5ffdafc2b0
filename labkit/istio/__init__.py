"""Istio on a cluster: its releases, installation, way in, and what is wrong with it."""

from labkit.istio.releases import NAMESPACE, facts
from labkit.istio.source import Release, download, release

__all__ = ["NAMESPACE", "Release", "download", "facts", "release"]
