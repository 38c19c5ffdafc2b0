# SPDX-License-Identifier: Apache-2.0
"""What Envoy's RBAC filters say of a request: which policies there are, by name, and which of them hold for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.cluster import Obj
from labkit.istio.envoy import matching
from labkit.istio.envoy.dump import config_of
from labkit.istio.envoy.matching import Request, Verdict, all_of, any_of, negated

__all__ = ["Call", "Judged", "judge"]

_ISTIO = re.compile(r"ns\[(?P<namespace>[^\]]*)\]-policy\[(?P<name>[^\]]*)\]-rule\[(?P<rule>\d+)\]")


@dataclass(frozen=True)
class Call:
    """A request as a server's proxy sees it.

    Args:
        request: The request.
        caller: The SPIFFE id in the client's certificate; "" without mutual TLS.
        port: The port of the pod that it comes to.
    """

    request: Request
    caller: str
    port: int


@dataclass(frozen=True)
class Judged:
    """A policy of an RBAC filter, and whether it holds for the request.

    Args:
        name: As a reader knows it: "viewer, rule 0 (AuthorizationPolicy in bookinfo)", or Envoy's own name.
        action: "ALLOW", "DENY" or "LOG".
        holds: True, False, or None where it depends.
        why: The reason in words.
        ours: Whether it comes from an object of Istio's.
    """

    name: str
    action: str
    holds: bool | None
    why: str
    ours: bool


def _filters(chain: Sequence[Obj], scopes: Sequence[Mapping[str, Any]]) -> Iterator[Obj]:
    """The settings of each RBAC filter: a route's own count before a virtual host's, and that before the table's."""
    for one in chain:
        config = config_of(one)
        if "rbac" not in str(config.get("@type", one.get("name", ""))).lower():
            continue
        for scope in scopes:
            own = (scope.get("typed_per_filter_config") or {}).get(one.get("name", ""))
            if own is not None:
                config = own.get("rbac") or {}
                break
        yield config


def judge(chain: Sequence[Obj], scopes: Sequence[Mapping[str, Any]], call: Call) -> tuple[list[Judged], Verdict]:
    """All policies in the order of their filters, and whether the request passes.

    Args:
        chain: Network filters, or the HTTP filters of a connection manager.
        scopes: Where settings of their own may stand: the route, its virtual host, the route table.
        call: The request.
    """
    every: list[Judged] = []
    outcomes: list[Verdict] = []
    for config in _filters(chain, scopes):
        rules = config.get("rules")
        if rules is None:
            continue
        action = str(rules.get("action", "ALLOW"))
        judged = [_judged(name, action, policy, call) for name, policy in (rules.get("policies") or {}).items()]
        every += judged
        ours = [one for one in judged if one.ours]
        # What no object of Istio's brought, such as a sandbox's own door, is no answer to who may call whom.
        if judged and not ours:
            continue
        if action == "DENY":
            outcomes.append(_denied(judged))
        elif action == "ALLOW":
            outcomes.append(_allowed(judged))
    return every, all_of(outcomes)


def _denied(judged: Sequence[Judged]) -> Verdict:
    for one in judged:
        if one.holds:
            return Verdict(False, f"{one.name} denies it")
    open_ones = [one for one in judged if one.holds is None]
    return Verdict(None, f"{open_ones[0].name}: {open_ones[0].why}") if open_ones else Verdict(True)


def _allowed(judged: Sequence[Judged]) -> Verdict:
    for one in judged:
        if one.holds:
            return Verdict(True, f"{one.name} allows it")
    open_ones = [one for one in judged if one.holds is None]
    if open_ones:
        return Verdict(None, f"{open_ones[0].name}: {open_ones[0].why}")
    names = ", ".join(one.name for one in judged)
    return Verdict(False, f"none of the rules that allow something holds ({names})" if names else "nothing is allowed")


def _judged(name: str, action: str, policy: Obj, call: Call) -> Judged:
    known = _ISTIO.fullmatch(name)
    shown = f"{known['name']}, rule {known['rule']} (namespace {known['namespace']})" if known else name
    caller = any_of(_holds(one, call, "ids", "id") for one in policy.get("principals") or [])
    what = any_of(_holds(one, call, "rules", "rule") for one in policy.get("permissions") or [])
    both = all_of([caller, what])
    if policy.get("condition") and both.holds is not False:
        both = Verdict(None, "a condition in CEL")
    return Judged(shown, action, both.holds, both.why, known is not None)


def _holds(one: Mapping[str, Any], call: Call, several: str, single: str) -> Verdict:
    """Whether a Permission (`several` is "rules") or a Principal ("ids") holds."""

    def inner(items: Iterable[Mapping[str, Any]]) -> list[Verdict]:
        return [_holds(item, call, several, single) for item in items]

    if one.get("any"):
        return Verdict(True)
    for key, value in one.items():
        if key == f"and_{several}":
            return all_of(inner(value.get(several) or []))
        if key == f"or_{several}":
            return any_of(inner(value.get(several) or []))
        if key == f"not_{single}":
            return negated(_holds(value, call, several, single))
        if key == "header":
            return matching.header(value, call.request)
        if key == "url_path":
            return _text("the path", value.get("path") or {}, call.request.plain_path)
        if key == "destination_port":
            return Verdict(call.port == int(value), f"the port is {value}")
        if key == "authenticated":
            return _authenticated(value.get("principal_name"), call)
    return Verdict(None, f"{next(iter(one), 'nothing').replace('_', ' ')}, which is not known here")


def _authenticated(wanted: Mapping[str, Any] | None, call: Call) -> Verdict:
    if not call.caller:
        return Verdict(False, "the caller shows no certificate")
    if wanted is None:
        return Verdict(True, "the caller shows a certificate")
    return _text("the caller", wanted, call.caller)


def _text(what: str, matcher: Mapping[str, Any], value: str) -> Verdict:
    holds, said = matching.text(matcher, value), f"{what} {matching.text_words(matcher)}"
    if holds is None:
        return Verdict(None, f"{said}, which only Envoy can read")
    return Verdict(holds, said if holds else f"{said}: it is {value or 'not known'}")
