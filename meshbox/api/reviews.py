# SPDX-License-Identifier: Apache-2.0
"""Questions that are answered, never kept: who am I, may I."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from meshbox.api import refusals
from meshbox.api.builtin.well_formed import as_dict
from meshbox.api.metadata import now
from meshbox.api.resources import Resource
from meshbox.contracts import ApiError, Obj, Objects
from meshbox.rbac.policy import Attributes, Authorizer
from meshbox.rbac.users import User, user_of
from meshbox.tokens import Tokens
from meshbox.values import dumps

__all__ = ["answer", "token_request"]

_SECONDS = "spec.expirationSeconds"
_LONGEST = 1 << 32


def _user(user: User) -> Obj:
    return {"username": user.name, "groups": list(user.groups)}


def answer(resource: Resource, review: Obj, user: User, tokens: Tokens, authorizer: Authorizer) -> Obj:
    """`review` with its status.

    Args:
        resource: The kind of question, e.g. SelfSubjectAccessReview.
        review: What was sent.
        user: Who asks.
        tokens: For TokenReview.
        authorizer: For the others.

    Raises:
        ApiError: 422 where it asks nothing.
    """
    kind, spec = resource.kind, review.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    if kind == "TokenReview":
        holder = tokens.holder(str(spec.get("token", "")))
        status: Obj = {"authenticated": True, "user": _user(holder)} if holder else {"user": {}}
        known, wanted = tokens.audiences(str(spec.get("token", ""))), spec.get("audiences") or ()
        if not holder:
            status["error"] = "invalid bearer token"
        elif wanted and known and not set(known) & set(wanted):
            said = [dumps(list(one)).decode() for one in (known, wanted)]
            why = f"token audiences {said[0]} is invalid for the target audiences {said[1]}"
            status = {"user": {}, "error": f"[invalid bearer token, {why}]"}
        elif wanted:
            status["audiences"] = [one for one in wanted if one in (known or wanted)]
    elif kind == "SelfSubjectReview":
        status = {"userInfo": _user(user)}
    elif kind == "SelfSubjectRulesReview":
        rules = [rule for rule, _ in authorizer.rules(user, str(spec.get("namespace") or ""))]
        status = {
            "resourceRules": [_shown(rule, "resources") for rule in rules if rule.get("resources")],
            "nonResourceRules": [_shown(rule, "nonResourceURLs") for rule in rules if rule.get("nonResourceURLs")],
            "incomplete": False,
        }
    else:
        status = _decided(resource, review, spec, user, authorizer)
    meta = review.get("metadata") or {}
    if kind == "SelfSubjectReview":
        meta = {**meta, "creationTimestamp": now()}
    return {**review, "kind": kind, "metadata": meta, "status": status}


def _shown(rule: Obj, what: str) -> Obj:
    fields = ("verbs", what) if what == "nonResourceURLs" else ("verbs", "apiGroups", "resources", "resourceNames")
    return {field: rule[field] for field in fields if rule.get(field)}


def _decided(resource: Resource, review: Obj, spec: Obj, user: User, authorizer: Authorizer) -> Obj:
    """The status of one of the three questions whether somebody may."""
    about, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    causes = []
    if about is not None and path is not None:
        shown = dumps({"Path": str(path.get("path") or ""), "Verb": str(path.get("verb") or "")}).decode()
        words = f"Invalid value: {shown}: cannot be specified in combination with resourceAttributes"
        causes.append(refusals.cause("spec.nonResourceAttributes", words))
    if about is None and path is None:
        words = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        causes.append(refusals.cause("spec.resourceAttributes", f"Invalid value: null: {words}"))
    if not resource.kind.startswith("Self"):
        if not spec.get("user") and not spec.get("groups"):
            words = 'Invalid value: "": at least one of user or group must be specified'
            causes.append(refusals.cause("spec.user", words))
        user = user_of(str(spec.get("user") or ""), spec.get("groups") or ())
    if resource.kind.startswith("Local") and about:
        inside = str((review.get("metadata") or {}).get("namespace") or "")
        if (given := str(about.get("namespace") or "")) != inside:
            words = f"Invalid value: {refusals.quoted(given)}: must match metadata.namespace"
            causes.append(refusals.cause("spec.resourceAttributes.namespace", words))
    if causes:
        # The server names no kind here.
        raise refusals.invalid(replace(resource, kind=""), "", causes)
    decision = authorizer.decide(user, _attributes(about or {}, path or {}))
    status: Obj = {"allowed": decision.allowed}
    return {**status, "reason": decision.reason} if decision.reason else status


def _attributes(about: Any, path: Any) -> Attributes:
    if path:
        return Attributes(str(path.get("verb", "")).lower(), path=str(path.get("path", "")))
    fields = ("verb", "group", "resource", "subresource", "namespace", "name")
    return Attributes(**{field: str(about.get(field) or "") for field in fields})


def token_request(request: Obj, account: Obj, tokens: Tokens, objects: Objects) -> Obj:
    """A TokenRequest for a ServiceAccount, answered.

    Raises:
        ApiError: 404 or 409 where it is to be bound to an object that is not there, 400 where to one of another kind or
            a pod of another account, 422 where it cannot last so long, or is for another account.
    """
    from datetime import UTC, datetime, timedelta

    _check_request(request, account)

    spec = request.get("spec") if isinstance(request.get("spec"), dict) else {}
    assert isinstance(spec, dict)
    asked = spec.get("expirationSeconds")
    seconds = asked if isinstance(asked, int) else 3600
    if not 600 <= seconds <= _LONGEST:
        wrong = "less than 10 minutes" if seconds < 600 else "larger than 2^32 seconds"
        words = f"Invalid value: {seconds}: may not specify a duration {wrong}"
        error = ApiError(422, "Invalid", f'TokenRequest.authentication.k8s.io "" is invalid: {_SECONDS}: {words}')
        error.details = {
            "group": "authentication.k8s.io",
            "kind": "TokenRequest",
            "causes": [refusals.cause(_SECONDS, words)],
        }
        raise error
    audiences = spec.get("audiences") or ["https://kubernetes.default.svc.cluster.local"]
    meta = account["metadata"]
    bound = _bound(spec.get("boundObjectRef"), meta["namespace"], account, objects)
    token = tokens.issue(meta["namespace"], meta["name"], meta["uid"], seconds, audiences, bound=bound)
    expires = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        "spec": {**spec, "expirationSeconds": seconds, "audiences": audiences},
        "status": {"token": token, "expirationTimestamp": expires},
    }


_SHORTEST, _LONGEST = 600, 1 << 32
"""Seconds that a token may last."""


def _check_request(request: Obj, account: Obj) -> None:
    given, field = as_dict(request.get("metadata")).get("name"), "metadata.name"
    seconds, words, name = as_dict(request.get("spec")).get("expirationSeconds"), "", ""
    if given and given != account["metadata"]["name"]:
        name, words = account["metadata"]["name"], f"{refusals.quoted(given)}: must match the service account name"
        words += " if specified"
    elif isinstance(seconds, int) and not _SHORTEST <= seconds <= _LONGEST:
        bound = "less than 10 minutes" if seconds < _SHORTEST else "larger than 2^32 seconds"
        field, words = "spec.expirationSeconds", f"{seconds}: may not specify a duration {bound}"
    if words:
        one = refusals.cause(field, f"Invalid value: {words}")
        details = {"name": name, "group": "authentication.k8s.io", "kind": "TokenRequest", "causes": [one]}
        what = f'TokenRequest.authentication.k8s.io "{name}" is invalid: {field}: {one["message"]}'
        raise ApiError(422, "Invalid", what, {key: value for key, value in details.items() if value})


def _bound(reference: Any, namespace: str, account: Obj, objects: Objects) -> tuple[str, str, str] | None:
    """What a token is to end with, besides its account: kind, name and uid."""
    if not isinstance(reference, dict):
        return None
    kind, name, uid = (str(reference.get(field) or "") for field in ("kind", "name", "uid"))
    if kind not in ("Pod", "Secret"):
        group, _, version = str(reference.get("apiVersion") or "").rpartition("/")
        raise refusals.bad_request(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
    bound_to = objects.get(f"{kind.lower()}s", name, namespace)
    runs_as = as_dict(bound_to.get("spec")).get("serviceAccountName")
    if kind == "Pod" and runs_as != account["metadata"]["name"]:
        words = f'cannot bind token for serviceaccount "{account["metadata"]["name"]}" to pod running with different'
        raise refusals.bad_request(f"{words} serviceaccount name.")
    found = bound_to["metadata"]["uid"]
    if uid and uid != found:
        why = f"the UID in the bound object reference ({uid}) does not match the UID in record. "
        words = f"{why}The object might have been deleted and then recreated"
        raise ApiError(409, "Conflict", f'Operation cannot be fulfilled on {kind.lower()}s "{name}": {words}')
    return kind.lower(), name, found
