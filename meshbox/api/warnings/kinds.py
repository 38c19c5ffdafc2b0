# SPDX-License-Identifier: Apache-2.0
"""What is warned of in objects of each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labkit.ground.quantity import Quantity
from meshbox.api.refusals import quoted
from meshbox.api.schema.formats import checked
from meshbox.api.warnings.key_pairs import key_pair_problem
from meshbox.api.warnings.labels import NODE_LABELS, of_terms
from meshbox.api.warnings.pods import deprecated_sources, of_claim, of_name, of_template
from meshbox.api.warnings.rows import told
from meshbox.contracts import Obj

__all__ = ["KINDS"]

Warn = Callable[[Obj, Obj | None], list[str]]
"""From an object and the one before, if there was one, to what is said."""

_CLASS = "kubernetes.io/ingress.class"
_VOLUMES = ("cephfs", "photonPersistentDisk", "scaleIO", "storageos", "glusterfs", "rbd")


def _annotations(obj: Obj) -> Obj:
    return obj["metadata"].get("annotations") or {}


def _is_new(obj: Obj, old: Obj | None) -> bool:
    """Whether an object says something that it did not say before: of the rest nobody is told again."""
    return old is None or obj.get("spec") != old.get("spec") or _annotations(obj) != _annotations(old)


def _pod(obj: Obj, old: Obj | None) -> list[str]:
    if old is not None:
        return []
    return of_name(obj, "this is used in the Pod's hostname") + of_template("", obj)


def _templated(obj: Obj, old: Obj | None) -> list[str]:
    return of_template("spec.template", obj["spec"].get("template") or {}) if _is_new(obj, old) else []


def _named(obj: Obj, old: Obj | None) -> list[str]:
    return ([] if old else of_name(obj)) + _templated(obj, old)


def _replication_controller(obj: Obj, old: Obj | None) -> list[str]:
    # Kubernetes takes the old template for the new one.
    return _named(obj, old) if old is None else _templated(old, None) if _is_new(obj, old) else []


def _pod_template(obj: Obj, old: Obj | None) -> list[str]:
    template = obj.get("template") or {}
    return of_template("template", template) if old is None or template != (old.get("template") or {}) else []


def _stateful_set(obj: Obj, old: Obj | None) -> list[str]:
    spec, found = obj["spec"], _templated(obj, old)
    for index, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        found += of_claim(f"spec.volumeClaimTemplates[{index}]{'.Spec' if old else ''}", claim.get("spec") or {})
    if (spec.get("revisionHistoryLimit") or 0) < 0:
        told = "a negative value retains all historical revisions; a value >= 0 is recommended"
        found.append(f"spec.revisionHistoryLimit: {told}")
    return found


def _job_spec(path: str, spec: Obj) -> list[str]:
    found = []
    many = (spec.get("completions") or 0) > 100_000 and (spec.get("parallelism") or 0) > 10_000
    if many and spec.get("completionMode") == "Indexed":
        told = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4"
        lost = "Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        found.append(f"{path}: {told}, {lost}")
    return found + of_template(f"{path}.template", spec.get("template") or {})


def _job(obj: Obj, old: Obj | None) -> list[str]:
    return ([] if old else of_name(obj)) + (_job_spec("spec", obj["spec"]) if _is_new(obj, old) else [])


def _cron_job(obj: Obj, old: Obj | None) -> list[str]:
    found = [] if old else of_name(obj)
    if _is_new(obj, old):
        found += _job_spec("spec.jobTemplate.spec", obj["spec"]["jobTemplate"].get("spec") or {})
    if old is not None and "TZ" in (obj["spec"].get("schedule") or ""):
        see = "see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
        found.append(f"cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, {see}")
    return found


def _volume(obj: Obj, _: Obj | None) -> list[str]:
    spec, found = obj["spec"], told("persistentvolumes", obj)
    terms = ((spec.get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or ()
    for index, term in enumerate(terms):
        found += of_terms(f"spec.nodeAffinity.required.nodeSelectorTerms[{index}]", term)
    return found + deprecated_sources("spec", spec, _VOLUMES)


def _claim(obj: Obj, _: Obj | None) -> list[str]:
    return told("persistentvolumeclaims", obj) + of_claim("spec", obj["spec"])


def _storage_class(obj: Obj, _: Obj | None) -> list[str]:
    return [
        f"allowedTopologies[{index}].matchLabelExpressions[{number}].key: {NODE_LABELS[one['key']]}"
        for index, topology in enumerate(obj.get("allowedTopologies") or ())
        for number, one in enumerate(topology.get("matchLabelExpressions") or ())
        if one.get("key") in NODE_LABELS
    ]


def _secret(obj: Obj, _: Obj | None) -> list[str]:
    return key_pair_problem(obj.get("data") or {}) if obj.get("type") == "kubernetes.io/tls" else []


def _quota(obj: Obj, old: Obj | None) -> list[str]:
    hard, found = obj["spec"].get("hard") or {}, []
    for name in ("cpu", "memory", "storage", "ephemeral-storage") if old is None else ():
        asked, most = f"requests.{name}", f"limits.{name}"
        if asked not in hard and name in ("cpu", "memory"):
            asked = name
        if asked in hard and most in hard and Quantity.of(hard[asked]) > Quantity.of(hard[most]):
            found.append(f"ResourceQuota {asked} ({hard[asked]}) should be less than {most} ({hard[most]})")
    return found


def _ingress(obj: Obj, old: Obj | None) -> list[str]:
    if old is not None or _CLASS not in _annotations(obj) or obj["spec"].get("ingressClassName") is not None:
        return []
    return [f"annotation \"{_CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"]


def _strange_formats(schema: Any) -> set[str]:
    """Formats of texts that the server does not know, in a schema and all below it."""
    if isinstance(schema, list):
        return set().union(*map(_strange_formats, schema))
    if not isinstance(schema, dict):
        return set()
    own = schema.get("format")
    mine = {own} if schema.get("type") == "string" and isinstance(own, str) and own and not checked(own) else set()
    return mine.union(*(_strange_formats(one) for name, one in schema.items() if name not in ("default", "enum")))


def _definition(obj: Obj, old: Obj | None) -> list[str]:
    def found(crd: Obj) -> set[str]:
        return _strange_formats([one.get("schema") for one in crd["spec"].get("versions") or ()])

    return [f"unrecognized format {quoted(one)}" for one in sorted(found(obj) - (found(old) if old else set()))]


KINDS: dict[str, Warn] = {
    "cronjobs.batch": _cron_job,
    "customresourcedefinitions.apiextensions.k8s.io": _definition,
    "daemonsets.apps": _templated,
    "deployments.apps": _named,
    "ingresses.networking.k8s.io": _ingress,
    "jobs.batch": _job,
    "persistentvolumeclaims": _claim,
    "persistentvolumes": _volume,
    "pods": _pod,
    "podtemplates": _pod_template,
    "replicasets.apps": _named,
    "replicationcontrollers": _replication_controller,
    "resourcequotas": _quota,
    "secrets": _secret,
    "statefulsets.apps": _stateful_set,
    "storageclasses.storage.k8s.io": _storage_class,
}
"""By resource: what no row tells of it."""
