# SPDX-License-Identifier: Apache-2.0
"""What a request wants to do, as whom, and the words of a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from meshbox.contracts import ApiError
from meshbox.rbac.policy import Attributes, Authorizer
from meshbox.rbac.users import User, user_of

__all__ = ["acting", "attributes", "forbidden"]

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "HEAD": "get"}
_CONNECT = frozenset({"exec", "attach", "portforward"})
_YES = ("true", "1")


class _Target(Protocol):
    @property
    def group(self) -> str: ...
    @property
    def plural(self) -> str: ...
    @property
    def namespace(self) -> str | None: ...
    @property
    def name(self) -> str: ...
    @property
    def subresource(self) -> str: ...


def attributes(method: str, path: str, target: _Target | None, query: Mapping[str, str]) -> Attributes:
    """What a request is about.

    Args:
        method: Of the request.
        path: Of the request.
        target: The resource that the path names; None where it names none.
        query: Of the request.
    """
    if target is None:
        return Attributes(method.lower(), path=path)
    verb = _VERBS.get(method, "get")
    if target.subresource in _CONNECT:
        verb = "create"
    elif verb == "get" and method == "GET" and query.get("watch") in _YES:
        verb = "watch"
    elif verb == "get" and not target.name:
        verb = "list"
    elif verb == "delete" and not target.name:
        verb = "deletecollection"
    namespace = target.namespace or ""
    if target.plural == "namespaces" and not target.group and target.name:
        namespace = target.name
    return Attributes(verb, target.group, target.plural, target.subresource, namespace, target.name)


def forbidden(user: User, asked: Attributes) -> ApiError:
    """403, in the API server's words."""
    who = f'User "{user.name}" cannot {asked.verb}'
    if asked.path:
        return ApiError(403, "Forbidden", f'forbidden: {who} path "{asked.path}"')
    resource = f"{asked.resource}.{asked.group}" if asked.group else asked.resource
    subject = f'{resource} "{asked.name}"' if asked.name else resource
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    message = f'{subject} is forbidden: {who} resource "{asked.words}" in API group "{asked.group}" {where}'
    details = {"name": asked.name, "group": asked.group, "kind": asked.resource}
    return ApiError(403, "Forbidden", message, {key: value for key, value in details.items() if value})


def acting(user: User, headers: Mapping[str, str], groups: list[str], authorizer: Authorizer) -> User:
    """As whom `user` asks: himself, or whom the headers of the request name.

    Args:
        user: Who sent the request.
        headers: Of the request.
        groups: The values of its headers Impersonate-Group.
        authorizer: Says whether he may.

    Raises:
        ApiError: 403 where he may not, 400 or 500 where the headers make no sense.
    """
    name = headers.get("Impersonate-User", "")
    if not name:
        # By kind, then name, then key, as the server lists what was asked for.
        asked = [f"{{Group {group} }}" for group in groups]
        asked += [f"{{UID {uid} }}" for uid in [headers.get("Impersonate-Uid", "")] if uid]
        if asked:
            words = f"requested [{' '.join(asked)}] without impersonating a user"
            raise ApiError(400, "BadRequest", words)
        return user
    account = User(name, ()).account
    if account:
        wanted = [Attributes("impersonate", resource="serviceaccounts", namespace=account[0], name=account[1])]
    else:
        wanted = [Attributes("impersonate", resource="users", name=name)]
    wanted += [Attributes("impersonate", resource="groups", name=group) for group in groups]
    for one in wanted:
        if not authorizer.decide(user, one).allowed:
            raise forbidden(user, one)
    return user_of(name, groups)
