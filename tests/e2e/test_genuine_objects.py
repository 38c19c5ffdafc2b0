# SPDX-License-Identifier: Apache-2.0
"""Every object of every genuine manifest: taken as it stands, and played, or said not to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshbox.mesh import kinds
from meshbox.mesh.unplayed import whole_kinds
from tests.conftest import SandboxUnderTest, genuine

pytestmark = pytest.mark.genuine

Obj = dict[str, Any]

BY_THE_API = {
    "configmaps", "customresourcedefinitions.apiextensions.k8s.io", "namespaces", "secrets", "serviceaccounts",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingadmissionpolicies.admissionregistration.k8s.io",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
}  # fmt: skip
BY_CONTROLLERS = {
    "deployments.apps", "deployments.extensions", "daemonsets.apps", "horizontalpodautoscalers.autoscaling",
    "jobs.batch", "poddisruptionbudgets.policy", "services", "statefulsets.apps",
}  # fmt: skip
SHOWN = {
    # One user may do all there is: roles are what `kubectl get` shows, and Galley's own one is what it belongs to.
    *(f"{name}.rbac.authorization.k8s.io" for name in ("roles", "rolebindings", "clusterroles", "clusterrolebindings")),
    # Mixer's pages count its own objects, and the demo profile's are what is reported.
    *(f"{name}.config.istio.io" for name in ("attributemanifests", "handlers", "instances", "rules")),
}
WORKLOADS = ("Deployment", "DaemonSet", "StatefulSet", "Job")
ORDER = ("CustomResourceDefinition", "Namespace")


def objects(folder: Path) -> Iterator[tuple[str, Obj]]:
    """Each object below a folder, with its file, those first without which others are unknown."""
    found = []
    for file in sorted(folder.rglob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            listed = (document or {}).get("items") if (document or {}).get("kind") == "List" else [document]
            found += [(file.relative_to(folder).as_posix(), one) for one in listed or [] if one]
    yield from sorted(found, key=lambda one: ORDER.index(one[1]["kind"]) if one[1]["kind"] in ORDER else len(ORDER))


def resources(sandbox: SandboxUnderTest) -> dict[tuple[str, str], str]:
    """The resource of each kind, as the mesh names it."""
    found = {}
    listed = sandbox.kubectl("api-resources", "--no-headers", "-o", "wide").stdout.splitlines()
    for line in listed:
        words = line.split()
        at = next(index for index, word in enumerate(words) if word in ("true", "false"))
        group = words[at - 1].rpartition("/")[0]
        found[group, words[at + 1]] = f"{words[0]}.{group}" if group else words[0]
    return found


@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
def test_none_is_silently_ignored(release: str, start_sandbox: Callable[..., SandboxUnderTest]) -> None:
    folders = [genuine(release)]
    if release != "1.2.2":
        folders.append(genuine(release).parent / "gateway-api-1.5.1")
    sandbox = start_sandbox(release)
    sandbox.kubectl("create", "namespace", "istio-system", check=False)
    played = {*BY_THE_API, *BY_CONTROLLERS, *map(str, kinds.RESOURCES), *SHOWN}
    played -= set(whole_kinds(legacy=release == "1.2.2")) - SHOWN
    everything = [one for folder in reversed(folders) for one in objects(folder)]
    first = [obj for _, obj in everything if obj["kind"] in ORDER]
    refused, silent = [apply(sandbox, first)[0]], []
    known = resources(sandbox)
    for file, obj in everything:
        resource = known.get((obj["apiVersion"].rpartition("/")[0], obj["kind"]), "")
        if obj["kind"] not in ORDER and resource not in played:
            problem, warned = apply(sandbox, [obj])
            refused.append(problem)
            silent += [] if warned else [(file, resource, obj["metadata"].get("name"))]
    for file in dict.fromkeys(file for file, _ in everything):
        inside = [one for where, one in everything if where == file and one["kind"] not in ORDER]
        # What would start pods is only looked at.
        for pods in (True, False):
            chosen = [one for one in inside if (one["kind"] in WORKLOADS) is pods]
            refused.append(apply(sandbox, chosen, *(["--dry-run=server"] if pods else []))[0])
    assert [one for one in refused if one] == []
    assert silent == []
    assert len(everything) > (200 if release == "1.2.2" else 120)


def apply(sandbox: SandboxUnderTest, chosen: list[Obj], *flags: str) -> tuple[str, bool]:
    """Apply objects; why one was refused, and whether something was warned of."""
    if not chosen:
        return "", False
    text = yaml.safe_dump_all([{**one, "metadata": {"namespace": "default", **one["metadata"]}} for one in chosen])
    words = ("apply", "--server-side", "--force-conflicts", *flags, "-f", "-")
    done = sandbox.kubectl(*words, stdin=text, check=False)
    return done.stderr if done.returncode else "", "Warning:" in done.stderr
