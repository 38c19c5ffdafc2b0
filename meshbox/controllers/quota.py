# SPDX-License-Identifier: Apache-2.0
"""ResourceQuota: what a namespace may hold, refused beyond it, and counted in each quota's status."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from labkit.ground.labels import Requirement
from labkit.ground.quantity import Quantity
from meshbox.contracts import AdmissionRequest, Obj, Objects
from meshbox.controllers.meta import MANAGER, Context, forbidden
from meshbox.reconcile import Key, Reconciler
from meshbox.settings import SandboxSettings

__all__ = ["QuotaAdmission", "QuotaController", "pod_usage"]

QUOTAS = "resourcequotas"
_COUNTED = (
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
)
_PLAIN = {"cpu": "requests.cpu", "memory": "requests.memory", "ephemeral-storage": "requests.ephemeral-storage"}
_OVER = ("Succeeded", "Failed")

Usage = Mapping[str, Quantity]


def usage_of(resource: str, obj: Obj) -> Usage:
    """What one object takes of a quota, by the names that quotas use."""
    used: dict[str, Quantity] = defaultdict(Quantity)
    if resource == "pods" and (obj.get("status") or {}).get("phase") in _OVER:
        return used
    used[f"count/{resource}"] = Quantity(1)
    if resource in _COUNTED:
        used[resource] = Quantity(1)
    spec = obj.get("spec") or {}
    if resource == "pods":
        for name, value in pod_usage(spec).items():
            used[name] = value
        for plain, request in _PLAIN.items():
            if request in used:
                used[plain] = used[request]
    if resource == "services":
        kind, ports = spec.get("type"), spec.get("ports") or []
        if kind in ("NodePort", "LoadBalancer"):
            used["services.nodeports"] = Quantity(len(ports))
        if kind == "LoadBalancer":
            used["services.loadbalancers"] = Quantity(1)
    return used


def pod_usage(spec: Obj) -> dict[str, Quantity]:
    """Requests and limits: of all containers that run together, or of the largest that runs before them."""
    together: dict[str, Quantity] = defaultdict(Quantity)
    before: dict[str, Quantity] = defaultdict(Quantity)
    for container in spec.get("containers") or []:
        for name, value in _of_container(container):
            together[name] += value
    for container in spec.get("initContainers") or []:
        for name, value in _of_container(container):
            if container.get("restartPolicy") == "Always":
                together[name] += value
            else:
                before[name] = max(before[name], value)
    return {name: max(together[name], before[name]) for name in {*together, *before}}


def _of_container(container: Obj) -> Iterable[tuple[str, Quantity]]:
    resources = container.get("resources") or {}
    for kind in ("requests", "limits"):
        for name, value in (resources.get(kind) or {}).items():
            yield f"{kind}.{name}", Quantity.of(value)


class QuotaAdmission:
    """Refuses what would take more than a quota of its namespace allows.

    Args:
        objects: The cluster's objects.
        settings: The sandbox.
    """

    def __init__(self, objects: Objects, settings: SandboxSettings) -> None:
        self._objects = objects
        self._legacy = settings.legacy

    def mutate(self, request: AdmissionRequest) -> None:
        """Change nothing."""

    def validate(self, request: AdmissionRequest) -> None:
        """Refuse a creation that exceeds a quota.

        Raises:
            ApiError: 403, in Kubernetes' words.
        """
        if request.operation != "CREATE" or request.subresource or not request.namespace:
            return
        for quota in self._objects.list(QUOTAS, request.namespace):
            hard = _hard(quota)
            if not _concerns(quota, request.resource, request.object):
                continue
            name = quota["metadata"]["name"]
            if request.resource == "pods" and (missing := self._missing(request.object, hard)):
                raise forbidden(request, f"failed quota: {name}: must specify {missing}")
            more = usage_of(request.resource, request.object)
            touched = sorted(key for key in hard if more.get(key))
            if not touched:
                continue
            used = _used(self._objects, quota, touched)
            over = [key for key in touched if used[key] + more[key] > hard[key]]
            if over:
                said = (",".join(f"{key}={values[key]}" for key in over) for values in (more, used, hard))
                requested, taken, limited = said
                why = f"exceeded quota: {name}, requested: {requested}, used: {taken}, limited: {limited}"
                raise forbidden(request, why)

    def _missing(self, pod: Obj, hard: Usage) -> str:
        """What a pod must say because a quota counts it."""
        wanted = sorted(key for key in hard if key in _PLAIN or key.startswith(("requests.", "limits.")))
        spec = pod.get("spec") or {}
        found: dict[str, list[str]] = {}
        for key in wanted:
            real = _PLAIN.get(key, key)
            if real.partition(".")[2] not in ("cpu", "memory"):
                continue
            silent = [
                str(one.get("name"))
                for one in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
                if real not in dict(_of_container(one))
            ]
            if silent:
                found[key] = silent
        if self._legacy:
            return ",".join(found)
        return "; ".join(f"{key} for: {','.join(dict.fromkeys(names))}" for key, names in found.items())


class QuotaController:
    """Keeps each quota's status: what is allowed, and what is used."""

    def __init__(self, context: Context) -> None:
        self._objects = context.objects
        self.reconciler = Reconciler("resourcequota", context.objects, self._reconcile).watches(QUOTAS)
        for resource in _COUNTED:
            if resource != QUOTAS:
                self.reconciler.watches(resource, self._quotas)
        self._watched = set(_COUNTED)

    def _quotas(self, obj: Obj) -> list[Key]:
        namespace = obj["metadata"].get("namespace")
        return [(namespace, quota["metadata"]["name"]) for quota in self._objects.list(QUOTAS, namespace)]

    async def _reconcile(self, key: Key) -> None:
        namespace, name = key
        quota = self._objects.find(QUOTAS, name, namespace)
        if quota is None or "deletionTimestamp" in quota["metadata"]:
            return
        hard = quota["spec"].get("hard") or {}
        for resource in sorted({_counted(one) for one in hard} - self._watched):
            self._watched.add(resource)
            self.reconciler.watches(resource, self._quotas)
        used = _used(self._objects, quota, hard)
        status = {"hard": hard, "used": {one: str(used[one]) for one in hard}}
        if status != quota.get("status"):
            self._objects.update(QUOTAS, {**quota, "status": status}, subresource="status", manager=MANAGER)


def _hard(quota: Obj) -> Usage:
    return {key: Quantity.of(value) for key, value in (quota["spec"].get("hard") or {}).items()}


def _concerns(quota: Obj, resource: str, obj: Obj) -> bool:
    """Whether an object is within all scopes of the quota; those choose among pods."""
    spec = quota["spec"]
    chosen = [Requirement(scope, "Exists") for scope in spec.get("scopes") or ()]
    for one in (spec.get("scopeSelector") or {}).get("matchExpressions") or ():
        chosen.append(Requirement(one["scopeName"], one["operator"], one.get("values") or ()))
    if not chosen:
        return True
    scopes = _scopes(obj.get("spec") or {}) if resource == "pods" else {}
    return bool(scopes) and all(one.fits(scopes) for one in chosen)


def _scopes(spec: Obj) -> dict[str, str]:
    """The scopes that a pod is in, each with its value."""
    usage = pod_usage(spec)
    counted = any(usage.get(f"{kind}.{name}") for kind in ("requests", "limits") for name in ("cpu", "memory"))
    within = {"NotBestEffort" if counted else "BestEffort"}
    within.add("NotTerminating" if spec.get("activeDeadlineSeconds") is None else "Terminating")
    affinity = spec.get("affinity") or {}
    terms = [
        one.get("podAffinityTerm", one)
        for kind in ("podAffinity", "podAntiAffinity")
        for every in (affinity.get(kind) or {}).values()
        for one in every or ()
    ]
    if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
        within.add("CrossNamespacePodAffinity")
    name = spec.get("priorityClassName")
    return dict.fromkeys(within, "") | ({"PriorityClass": name} if name else {})


def _used(objects: Objects, quota: Obj, keys: Iterable[str]) -> dict[str, Quantity]:
    """What the quota's namespace holds of these names, as far as it concerns the quota."""
    wanted = set(keys)
    total: dict[str, Quantity] = defaultdict(Quantity)
    for resource in {_counted(key) for key in wanted}:
        every = objects.list(resource, quota["metadata"]["namespace"])
        for obj in (one for one in every if _concerns(quota, resource, one)):
            for key, value in usage_of(resource, obj).items():
                if key in wanted:
                    total[key] += value
    return total


def _counted(key: str) -> str:
    """The resource whose objects a name of a quota counts."""
    if key.startswith("count/"):
        return key.removeprefix("count/")
    if key.startswith("services"):
        return "services"
    return key if key in _COUNTED else "pods"
