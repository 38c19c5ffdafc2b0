# SPDX-License-Identifier: Apache-2.0
"""ValidatingAdmissionPolicies: what their bindings make of a write."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

from labkit.ground.labels import matches
from meshbox.api import refusals
from meshbox.api.admission.asked import Asked
from meshbox.api.admission.expressions import EvaluationError, Names, conditions_met, unreadable
from meshbox.api.conversion import from_hub
from meshbox.api.resources import Registry, Resource, Served
from meshbox.api.store import Store
from meshbox.contracts import Obj

__all__ = ["BINDINGS", "POLICIES", "Policies", "unplayed_expressions"]

log = logging.getLogger(__name__)

POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
BINDINGS = "validatingadmissionpolicybindings.admissionregistration.k8s.io"

_CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413}
_LONGEST_MESSAGE = 5 * 1024


class _Verdict(NamedTuple):
    """Why a write does not pass, and the reason that the policy gives it."""

    message: str
    reason: str = ""


class _ParamsError(Exception):
    """Parameters that are not there, though there must be some."""


class Policies:
    """Evaluates them.

    Args:
        store: Where they, and their parameters, are.
        registry: Finds the kind of parameters.
    """

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    @property
    def any(self) -> bool:
        """Whether some policy is bound."""
        return bool(self._store.entries(BINDINGS))

    def validate(self, asked: Asked, warnings: list[str]) -> None:
        """Ask all of them about a write; those that only warn add to `warnings`.

        Raises:
            ApiError: A policy and its binding refuse it.
        """
        denials = []
        bindings = [entry.obj for entry in self._store.entries(BINDINGS)]
        for entry in self._store.entries(POLICIES):
            name = entry.obj["metadata"]["name"]
            for binding in bindings:
                if binding["spec"].get("policyName") != name:
                    continue
                actions = binding["spec"].get("validationActions") or ()
                who = f"ValidatingAdmissionPolicy '{name}' with binding '{binding['metadata']['name']}'"
                for verdict in self._verdicts(entry.obj, binding, asked):
                    if "Deny" in actions:
                        denials.append(_Verdict(f"{who} denied request: {verdict.message}", verdict.reason))
                    if "Warn" in actions:
                        warnings.append(f"Validation failed for {who}: {verdict.message}")
                    if "Audit" in actions:
                        log.info("audit: validation failed for %s: %s", who, verdict.message)
        if denials:
            # All are found, and the first is told.
            first = denials[0]
            refusal = refusals.forbidden(asked.served.resource, asked.name, first.message)
            refusal.reason = first.reason or "Invalid"
            refusal.code = _CODES.get(refusal.reason, 422)
            refusal.details["causes"] = [{"message": first.message}]
            raise refusal

    def _verdicts(self, policy: Obj, binding: Obj, asked: Asked) -> Iterator[_Verdict]:
        """Why a write does not pass a policy, as one binding applies it."""
        spec, bound = policy["spec"], binding["spec"]
        served = _within(spec.get("matchConstraints") or {}, asked)
        if served is None or (bound.get("matchResources") and _within(bound["matchResources"], asked) is None):
            return
        fails = spec.get("failurePolicy") != "Ignore"
        try:
            given = self._params(spec, bound, asked)
        except _ParamsError as error:
            if fails:
                yield _Verdict(str(error))
            return
        variables = {one["name"]: one["expression"] for one in spec.get("variables") or ()}
        for params in given:
            names = Names(asked, served, params, variables)
            try:
                conditions = spec.get("matchConditions") or ()
                if not conditions_met((one for one in conditions if not unreadable(one["expression"])), names):
                    continue
            except EvaluationError as error:
                if fails:
                    yield _Verdict(str(error))
                continue
            for one in spec.get("validations") or ():
                if unreadable(one["expression"], variables):
                    # What cannot be judged here does not pass.
                    if fails:
                        yield _Verdict(
                            f"expression '{one['expression']}' resulted in error: the sandbox cannot evaluate it"
                        )
                    continue
                try:
                    if names.value(one["expression"]) is not True:
                        yield _Verdict(_message(one, names), one.get("reason") or "")
                except EvaluationError as error:
                    if fails:
                        yield _Verdict(str(error))
            _annotate(policy, names)

    def _params(self, spec: Obj, bound: Obj, asked: Asked) -> list[Any]:
        """With which parameters a binding evaluates its policy; [None] where it needs none.

        Raises:
            _ParamsError: There are none, and the binding says that this denies.
        """
        kind, ref = spec.get("paramKind"), bound.get("paramRef")
        if not kind or not ref:
            return [None]
        served = self._kind(str(kind.get("apiVersion") or ""), str(kind.get("kind") or ""))
        if served is None:
            named = f"{kind.get('apiVersion')}, Kind={kind.get('kind')}"
            raise _ParamsError(
                f"failed to configure policy: failed to find resource referenced by paramKind: '{named}'"
            )
        resource = served.resource
        namespace = (ref.get("namespace") or asked.namespace_name) if resource.namespaced else ""
        if resource.namespaced and not namespace:
            why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
            raise _ParamsError(f"failed to configure binding: {why}")
        found = [
            from_hub(served, entry.obj)
            for entry in self._store.entries(resource.name, namespace)
            if (entry.obj["metadata"]["name"] == ref["name"] if ref.get("name") else _selects(ref, entry.obj))
        ]
        if not found and ref.get("parameterNotFoundAction") == "Deny":
            why = "no params found for policy binding with `Deny` parameterNotFoundAction"
            raise _ParamsError(f"failed to configure binding: {why}")
        return list(found)

    def _kind(self, api_version: str, kind: str) -> Served | None:
        group, _, version = api_version.rpartition("/")
        known: list[Resource] = list(self._registry.all())
        return next(
            (
                Served(one, group, version)
                for one in known
                if one.kind == kind and one.group == group and version in one.versions and one.stored
            ),
            None,
        )


def _selects(ref: Obj, obj: Obj) -> bool:
    return matches(ref.get("selector"), obj["metadata"].get("labels"))


def _within(constraints: Obj, asked: Asked) -> Served | None:
    """The version in which `matchConstraints` or `matchResources` choose a write; None where they do not."""
    policy = constraints.get("matchPolicy") or "Equivalent"
    if not asked.selected(constraints) or asked.met(constraints.get("excludeResourceRules") or (), policy):
        return None
    rules = constraints.get("resourceRules") or ()
    return asked.met(rules, policy) if rules else asked.served


def _message(validation: Obj, names: Names) -> str:
    """What a validation says that did not hold."""
    text = validation.get("messageExpression") or ""
    if text and not unreadable(text):
        try:
            said = names.value(text)
        except EvaluationError as error:
            log.debug("no message: %s", error)
            said = ""
        if isinstance(said, str) and said.strip() and "\n" not in said and len(said) <= _LONGEST_MESSAGE:
            return said.strip()
    return validation.get("message") or f"failed expression: {validation['expression'].strip()}"


def _annotate(policy: Obj, names: Names) -> None:
    for one in policy["spec"].get("auditAnnotations") or ():
        try:
            value = names.value(one["valueExpression"])
        except EvaluationError as error:
            value = f"({error})"
        if value is not None:
            log.info("audit: %s/%s=%s", policy["metadata"]["name"], one["key"], value)


def unplayed_expressions(policy: Obj) -> Iterator[tuple[str, str]]:
    """Expressions of a policy that the sandbox cannot evaluate, and what becomes of a write for it."""
    spec = policy.get("spec") or {}
    refused = "it is left out" if spec.get("failurePolicy") == "Ignore" else "what it would judge is refused"
    for field, inner, what in (
        ("variables", "expression", refused),
        ("matchConditions", "expression", "it counts as true"),
        ("validations", "expression", refused),
        ("validations", "messageExpression", "it is left out"),
        ("auditAnnotations", "valueExpression", "it is left out"),
    ):
        for one in spec.get(field) or ():
            text = str(one.get(inner) or "")
            if text and unreadable(text):
                yield text, what
