# SPDX-License-Identifier: Apache-2.0
"""The roles that every cluster has, and who has them. What they allow is a fact of Kubernetes."""

from __future__ import annotations

from meshbox.contracts import Obj, Objects
from meshbox.rbac.policy import CLUSTER_BINDINGS, CLUSTER_ROLES

__all__ = ["bootstrap"]

_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_AGGREGATE = "rbac.authorization.k8s.io/aggregate-to-"


def _rule(verbs: list[str], group: str, resources: str) -> Obj:
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs}


def _paths(paths: str) -> Obj:
    return {"nonResourceURLs": paths.split(), "verbs": ["get"]}


_SCALED = "deployments deployments/scale replicasets replicasets/scale"
_VIEW = [
    _rule(
        _READ,
        "",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers "
        "replicationcontrollers/scale serviceaccounts services services/status",
    ),
    _rule(
        _READ,
        "",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status "
        "resourcequotas resourcequotas/status",
    ),
    _rule(_READ, "", "namespaces"),
    _rule(_READ, "discovery.k8s.io", "endpointslices"),
    _rule(
        _READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets "
        "replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    _rule(_READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    _rule(_READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    _rule(
        _READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status "
        "networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale",
    ),
    _rule(_READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    _rule(_READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
]
_EDIT = [
    _rule(_READ, "", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    _rule(["impersonate"], "", "serviceaccounts"),
    _rule(_WRITE, "", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    _rule(["create"], "", "pods/eviction"),
    _rule(
        _WRITE,
        "",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets "
        "serviceaccounts services services/proxy",
    ),
    _rule(["create"], "", "serviceaccounts/token"),
    _rule(_WRITE, "apps", f"daemonsets deployments/rollback {_SCALED} statefulsets statefulsets/scale"),
    _rule(_WRITE, "autoscaling", "horizontalpodautoscalers"),
    _rule(_WRITE, "batch", "cronjobs jobs"),
    _rule(
        _WRITE,
        "extensions",
        f"daemonsets deployments/rollback {_SCALED} ingresses networkpolicies replicationcontrollers/scale",
    ),
    _rule(_WRITE, "policy", "poddisruptionbudgets"),
    _rule(_WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    _rule([*_WRITE, *_READ], "coordination.k8s.io", "leases"),
]
_ADMIN = [
    _rule(["create"], "authorization.k8s.io", "localsubjectaccessreviews"),
    _rule([*_WRITE, *_READ], "rbac.authorization.k8s.io", "rolebindings roles"),
]
_OPEN = "/healthz /livez /readyz /version /version/"
_ALL: list[Obj] = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}]

_ROLES: dict[str, list[Obj]] = {
    "cluster-admin": _ALL,
    "system:aggregate-to-admin": _ADMIN,
    "system:aggregate-to-edit": _EDIT,
    "system:aggregate-to-view": _VIEW,
    "system:basic-user": [
        _rule(["create"], "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        _rule(["create"], "authentication.k8s.io", "selfsubjectreviews"),
    ],
    "system:discovery": [
        _paths("/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/")
    ],
    "system:public-info-viewer": [_paths(_OPEN)],
    "system:service-account-issuer-discovery": [
        _paths("/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/")
    ],
}
_AGGREGATED = {"admin": "", "edit": "admin", "view": "edit"}
"""Roles that are made of others, and the role that each is a part of."""

_BOUND = {
    "cluster-admin": ("system:masters",),
    "system:basic-user": ("system:authenticated",),
    "system:discovery": ("system:authenticated",),
    "system:public-info-viewer": ("system:authenticated", "system:unauthenticated"),
    "system:service-account-issuer-discovery": ("system:serviceaccounts",),
}


def bootstrap(objects: Objects) -> None:
    """Create what is missing of them."""
    for name, rules in _ROLES.items():
        part = name.removeprefix("system:aggregate-to-")
        labels = {f"{_AGGREGATE}{part}": "true"} if part != name else {}
        _create(objects, CLUSTER_ROLES, name, labels, {"rules": rules})
    for name, whole in _AGGREGATED.items():
        labels = {f"{_AGGREGATE}{whole}": "true"} if whole else {}
        selector = {"matchLabels": {f"{_AGGREGATE}{name}": "true"}}
        body: Obj = {"aggregationRule": {"clusterRoleSelectors": [selector]}, "rules": []}
        _create(objects, CLUSTER_ROLES, name, labels, body)
    group = {"apiGroup": "rbac.authorization.k8s.io"}
    for name, groups in _BOUND.items():
        subjects = [{**group, "kind": "Group", "name": one} for one in groups]
        reference = {**group, "kind": "ClusterRole", "name": name}
        _create(objects, CLUSTER_BINDINGS, name, {}, {"roleRef": reference, "subjects": subjects})


def _create(objects: Objects, resource: str, name: str, labels: Obj, body: Obj) -> None:
    if objects.find(resource, name) is None:
        meta = {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults", **labels},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        }
        objects.create(resource, {"metadata": meta, **body})
