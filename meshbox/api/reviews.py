# SPDX-License-Identifier: Apache-2.0
"""Questions that are answered, never kept: who am I, may I. In a sandbox the one user may do everything."""

from __future__ import annotations

from meshbox.contracts import Obj
from meshbox.tokens import Tokens

__all__ = ["answer", "token_request"]

_GROUPS = ["system:masters", "system:authenticated"]


def _user(name: str) -> Obj:
    if name.startswith("system:serviceaccount:"):
        namespace = name.split(":")[2]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        return {"username": name, "groups": groups}
    return {"username": name, "groups": _GROUPS}


def answer(kind: str, review: Obj, user: str, tokens: Tokens) -> Obj:
    """`review` with its status.

    Args:
        kind: e.g. "SelfSubjectAccessReview".
        review: What was sent.
        user: Who asks.
        tokens: For TokenReview.
    """
    spec = review.get("spec") if isinstance(review.get("spec"), dict) else {}
    assert isinstance(spec, dict)
    if kind == "TokenReview":
        name = tokens.user(str(spec.get("token", "")))
        status: Obj = {"authenticated": bool(name), "user": _user(name)} if name else {"user": {}}
        if name and spec.get("audiences"):
            status["audiences"] = spec["audiences"]
        if not name:
            status["error"] = "invalid bearer token"
    elif kind == "SelfSubjectReview":
        status = {"userInfo": _user(user)}
    elif kind == "SelfSubjectRulesReview":
        status = {
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": False,
        }
    else:
        status = {"allowed": True, "reason": "the sandbox allows everything"}
    return {**review, "kind": kind, "metadata": review.get("metadata") or {}, "status": status}


def token_request(request: Obj, account: Obj, tokens: Tokens) -> Obj:
    """A TokenRequest for a ServiceAccount, answered."""
    from datetime import UTC, datetime, timedelta

    spec = request.get("spec") if isinstance(request.get("spec"), dict) else {}
    assert isinstance(spec, dict)
    asked = spec.get("expirationSeconds")
    seconds = asked if isinstance(asked, int) and asked >= 600 else 3600
    audiences = spec.get("audiences") or ["https://kubernetes.default.svc.cluster.local"]
    meta = account["metadata"]
    token = tokens.issue(meta["namespace"], meta["name"], meta["uid"], seconds, audiences)
    expires = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        "spec": {**spec, "expirationSeconds": seconds, "audiences": audiences},
        "status": {"token": token, "expirationTimestamp": expires},
    }
