# SPDX-License-Identifier: Apache-2.0
"""Before anything is installed: can this cluster carry the course, and if not, why?"""

from __future__ import annotations

import re

from labkit import bookinfo, cluster, istio
from labkit.course.checks import Check, Checklist

__all__ = ["preflight"]

# What installing Istio takes beyond a namespace of one's own.
_RIGHTS = (
    ("create", "namespaces"),
    ("create", "customresourcedefinitions.apiextensions.k8s.io"),
    ("create", "clusterroles.rbac.authorization.k8s.io"),
    ("create", "mutatingwebhookconfigurations.admissionregistration.k8s.io"),
    ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
    ("delete", "namespaces"),
    ("delete", "clusterroles.rbac.authorization.k8s.io"),
)
_API_VERSION = re.compile(r"^apiVersion: *[\"']?([\w./-]+)", re.MULTILINE)


def preflight(release: istio.Release) -> Checklist:
    """Look at everything the course needs of a cluster.

    Args:
        release: The Istio release to be installed.

    Raises:
        ClusterError: The cluster does not answer.
    """
    server = cluster.server_version()
    checks = [Check("The Kubernetes API answers", True, server)]
    checks += [_nodes(), _kinds(release, server), _rights(), _untouched(release)]
    return Checklist(checks)


def _nodes() -> Check:
    states = {
        node["metadata"]["name"]: any(
            c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", ())
        )
        for node in cluster.get("nodes")
    }
    down = sorted(name for name, ready in states.items() if not ready)
    seen = f"{len(states) - len(down)} of {len(states)} ready" + (f"; not: {', '.join(down)}" if down else "")
    step = f"`kubectl describe node {' '.join(down)}`" if states else "`kubectl get nodes` shows none: it needs one."
    return Check("Every node is ready", bool(states) and not down, seen, step)


def _kinds(release: istio.Release, server: str) -> Check:
    wanted = set()
    samples = (release.samples / "httpbin/httpbin.yaml", release.path / bookinfo.MANIFEST)
    for path in (*release.crd_files, *release.demo_files, *samples):
        wanted |= set(_API_VERSION.findall(path.read_text()))
    # The groups that Istio's own CRDs bring come with the installation.
    needed = {version for version in wanted if "istio.io" not in version and "certmanager" not in version}
    missing = sorted(needed - cluster.api_versions())
    seen = f"{server} serves {len(needed) - len(missing)} of the {len(needed)} API versions it uses"
    step = 'Choose a release of this Kubernetes\' time (RELEASE = "1.30.3"), or TARGET = "sandbox".'
    return Check(
        f"This Kubernetes serves what Istio {release.version} is made of",
        not missing,
        seen + (f"; not {', '.join(missing)}" if missing else ""),
        step,
    )


def _rights() -> Check:
    lacking = [f"{verb} {resource}" for verb, resource in _RIGHTS if not cluster.may(verb, resource)]
    seen = f"may not {', '.join(lacking)}" if lacking else "cluster administrator"
    return Check("You may install Istio", not lacking, seen, "Ask the cluster's administrator, or use the sandbox.")


def _untouched(release: istio.Release) -> Check:
    claim = "The cluster has no Istio yet"
    crds = [c["metadata"]["name"] for c in cluster.get("crd") if "istio.io" in c["metadata"]["name"]]
    seen = f"{len(crds)} kinds of Istio's are installed" if crds else "nothing of Istio is here"
    theirs = istio.claimed(release, cluster.look(settle=False)) if not cluster.is_sandbox(cluster.current()) else []
    if theirs:
        first = ", ".join(f"{thing} ({thing.origin})" for thing in theirs[:3])
        seen = f"{seen}; {len(theirs)} objects are not the course's: {first}"
        step = 'The course neither installs over it nor removes it: take another cluster, or TARGET = "sandbox".'
        return Check(claim, False, seen, step)
    return Check(claim, not crds, seen, "Lessons played before are no fault.", needed=False)
