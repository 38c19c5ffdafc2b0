# SPDX-License-Identifier: Apache-2.0
"""`istioctl kube-inject`: manifests with the sidecar in them, as the cluster's own injector would have made the pods.

The injector is asked, by pods that are made for trial only (`dryRun=All`): one that wants the sidecar, one that does
not. What differs between the two is the injector's doing, and goes into the manifest.
"""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path
from typing import Any

import yaml

from labkit.cluster import Obj
from labkit.cluster.objects import connected
from labkit.ground.errors import ClusterError, SettingError
from labkit.istioctl.common import choose

__all__ = ["add_to"]

_SWITCH = "sidecar.istio.io/inject"
_HASH = "5d4f8c7b9f"
"""As Kubernetes names a Deployment's ReplicaSet."""


def add_to(commands: Any, parents: argparse.ArgumentParser) -> None:
    """The command."""
    parser = commands.add_parser("kube-inject", parents=[parents], help="put the sidecar into manifests")
    parser.add_argument("-f", "--filename", required=True, help='a manifest, "-" for what is read')
    parser.add_argument("-o", "--output", default="", help="the file to write; default: what is printed")
    parser.set_defaults(action=_run)


def _run(args: argparse.Namespace) -> int:
    text = sys.stdin.read() if args.filename == "-" else Path(args.filename).read_text()
    try:
        documents = [one for one in yaml.safe_load_all(text) if one]
    except yaml.YAMLError as error:
        raise SettingError(f"{args.filename} is no YAML: {error}", next_step="Correct it.") from None
    namespace = choose(args)
    made = yaml.safe_dump_all([_injected(one, namespace) for one in documents], sort_keys=False, explicit_start=False)
    if args.output:
        Path(args.output).write_text(f"{made}---\n")
    else:
        print(f"{made}---")
    return 0


def _template(document: Obj) -> Obj | None:
    """What of a document is a pod or makes some: with metadata and spec."""
    if document.get("kind") == "Pod":
        return document
    spec = document.get("spec") or {}
    if document.get("kind") == "CronJob":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    template = spec.get("template") if isinstance(spec, dict) else None
    return template if isinstance(template, dict) and "containers" in (template.get("spec") or {}) else None


def _injected(document: Obj, namespace: str) -> Obj:
    if not isinstance(document, dict):
        return document
    if isinstance(document.get("items"), list):
        return {**document, "items": [_injected(one, namespace) for one in document["items"]]}
    found = copy.deepcopy(document)
    template = _template(found)
    about = (template or {}).get("metadata") or {}
    told = {**(about.get("annotations") or {}), **(about.get("labels") or {})}
    if template is None or str(told.get(_SWITCH, "")).lower() == "false" or (template["spec"] or {}).get("hostNetwork"):
        return found
    where = (document.get("metadata") or {}).get("namespace") or namespace
    name = (document.get("metadata") or {}).get("name") or "manifest"
    with_it, without = (_tried(template, found, name, where, switch) for switch in ("true", "false"))
    if not any(
        one["name"] == "istio-proxy"
        for part in ("containers", "initContainers")
        for one in with_it["spec"].get(part) or []
    ):
        raise ClusterError(
            f"the cluster's injector puts no sidecar into {document.get('kind')} {name}",
            next_step="Is Istio installed? `kubectl get mutatingwebhookconfigurations`.",
        )
    metadata = template.setdefault("metadata", {})
    for part in ("labels", "annotations"):
        new, old = (one["metadata"].get(part) or {} for one in (with_it, without))
        changed = {key: value for key, value in new.items() if key != _SWITCH and old.get(key) != value}
        if changed:
            metadata[part] = {**(metadata.get(part) or {}), **changed}
    template["spec"] = _merged(template["spec"], without["spec"], with_it["spec"])
    return found


def _tried(template: Obj, document: Obj, name: str, namespace: str, switch: str) -> Obj:
    """The pod that would be made of a document's template."""
    about = copy.deepcopy(template.get("metadata") or {})
    about.pop("name", None)
    about |= {"generateName": f"{name[:40]}-", "namespace": namespace}
    if document.get("kind") != "Pod":
        # By its owner the injector knows what to call the workload.
        about["ownerReferences"] = [_owner(document, name)]
        about["labels"] = {**(about.get("labels") or {}), "pod-template-hash": _HASH}
    about["labels"] = {**(about.get("labels") or {}), _SWITCH: switch}
    # Istio 1.2 goes by the annotation.
    about["annotations"] = {**(about.get("annotations") or {}), _SWITCH: switch}
    # An account that is not there yet would be refused, and the token of one is no doing of the injector's.
    own = {"serviceAccountName": "default", "automountServiceAccountToken": False}
    spec = {key: one for key, one in template["spec"].items() if key != "serviceAccount"} | own
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec}
    typed = f"kubectl create --dry-run=server -n {namespace} pod {name}"
    path = f"/api/v1/namespaces/{namespace}/pods"
    return connected(write=True).ask(typed, path, method="POST", query={"dryRun": "All"}, body=pod)


def _owner(document: Obj, name: str) -> Obj:
    about = {"uid": "00000000-0000-0000-0000-000000000001", "controller": True}
    if document.get("kind") == "Deployment":
        return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{name}-{_HASH}", **about}
    return {"apiVersion": document.get("apiVersion") or "v1", "kind": str(document.get("kind")), "name": name, **about}


def _merged(own: Any, old: Any, new: Any) -> Any:
    """A manifest's own value, with what the injector changed: what is new as against what there would be without it."""
    if isinstance(own, dict) and isinstance(old, dict) and isinstance(new, dict):
        changed = {
            key: one
            for key, one in new.items()
            if old.get(key) != one and key not in ("serviceAccountName", "serviceAccount")
        }
        kept = {key: one for key, one in own.items() if key in new or key not in old}
        return {**kept, **{key: _merged(own.get(key), old.get(key), one) for key, one in changed.items()}}
    if isinstance(new, list) and all(isinstance(one, dict) and "name" in one for one in new):
        mine = {one["name"]: one for one in own or []}
        before = {one["name"]: one for one in old or []}
        # In the injector's order: some sidecars come first.
        return [
            _merged(mine[one["name"]], before.get(one["name"]), one) if one["name"] in mine else one
            for one in new
            if one["name"] in mine or before.get(one["name"]) != one
        ]
    return new
