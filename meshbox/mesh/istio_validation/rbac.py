# SPDX-License-Identifier: Apache-2.0
"""The RBAC objects of Istio 1.2, as its Galley looks at them: of any shape, for no table names their fields."""

from __future__ import annotations

from meshbox.contracts import Obj
from meshbox.mesh.envoy import Json
from meshbox.mesh.istio_validation.problems import Problems
from meshbox.mesh.istio_validation.texts import quoted

__all__ = ["config", "role", "role_binding"]


def _spec(obj: Obj) -> Json:
    return _mapping(obj.get("spec"))


def _mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> list[Json]:
    return [_mapping(one) for one in value] if isinstance(value, list) else []


def role(obj: Obj, problems: Problems) -> None:
    """Look at a ServiceRole."""
    rules = _mappings(_spec(obj).get("rules"))
    problems.require(rules, "at least 1 rule must be specified")
    for at, rule in enumerate(rules):
        problems.require(rule.get("services"), f"at least 1 service must be specified for rule {at}")
        for number, constraint in enumerate(_mappings(rule.get("constraints"))):
            where = f"for constraint {number} in rule {at}"
            problems.require(constraint.get("key"), f"key cannot be empty {where}")
            problems.require(constraint.get("values"), f"at least 1 value must be specified {where}")


def role_binding(obj: Obj, problems: Problems) -> None:
    """Look at a ServiceRoleBinding."""
    spec = _spec(obj)
    subjects = _mappings(spec.get("subjects"))
    problems.require(subjects, "at least 1 subject must be specified")
    for at, subject in enumerate(subjects):
        named = any(subject.get(key) for key in ("user", "group", "properties"))
        problems.require(named, f"at least 1 of user, group or properties must be specified for subject {at}")
    reference = spec.get("roleRef")
    if not isinstance(reference, dict):
        problems.error("roleRef must be specified")
        return
    kind = str(reference.get("kind") or "")
    only = f'kind set to {quoted(kind)}, currently the only supported value is "ServiceRole"'
    problems.require(kind == "ServiceRole", only)
    problems.require(reference.get("name"), "name cannot be empty")


def config(obj: Obj, problems: Problems) -> None:
    """Look at a ClusterRbacConfig or RbacConfig: the first thing that is wrong is all that is said."""
    spec, name = _spec(obj), obj["metadata"].get("name", "")
    if name != "default":
        problems.error(f'{obj.get("kind")} has invalid name({name}), name must be "default"')
        return
    for mode in ("inclusion", "exclusion"):
        if spec.get("mode") == f"ON_WITH_{mode.upper()}" and spec.get(mode) is None:
            problems.error(f"{mode} cannot be null (use '{mode}: {{}}' for none)")
