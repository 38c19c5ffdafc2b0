# SPDX-License-Identifier: Apache-2.0
"""From what kubectl says when it fails to an error with a next step."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from importlib import resources

from labkit.ground import config
from labkit.ground.errors import ClusterError

__all__ = ["explain"]


def _sandboxes() -> str:
    """Where the kubeconfigs of sandboxes are."""
    return str(config.home() / "sandboxes")


def _refused(_match: re.Match[str], _typed: str, target: str) -> str:
    if _sandboxes() in target:
        return (
            "Nothing answers at that address. `labkit up` starts the sandbox, `labkit status` says what runs; if its "
            "address is another now, run the lesson's first cell again."
        )
    return (
        f"Nothing answers at that address: is the cluster of {target} started (`minikube start`, `docker start` of a "
        "kind node, Docker Desktop's Kubernetes)? If it was made anew, run the lesson's first cell again."
    )


def _unreachable(_match: re.Match[str], _typed: str, target: str) -> str:
    if _sandboxes() in target:
        return "The sandbox's address is one of this machine: `labkit status` says whether it runs."
    step = "check the server in its kubeconfig, VPN and proxy"
    return f"The address of the cluster of {target} cannot be reached from here: {step}."


def _webhook(match: re.Match[str], _typed: str, _target: str) -> str:
    found = re.search(r"https://(?P<name>[^./]+)\.(?P<namespace>[^./]+)\.svc", match.string)
    pods = f"`kubectl get pods -n {found['namespace']}`" if found else "`kubectl get pods` in its namespace"
    return (
        f"The cluster answers; it cannot ask its webhook {match['webhook']}: do the pods behind it run? "
        f"{pods} shows them. On a private cluster, a firewall has to let the API server reach the webhook's port."
    )


def _denied(match: re.Match[str], _typed: str, _target: str) -> str:
    who = "Istio" if "istio" in match["webhook"] else f"The webhook {match['webhook']}"
    return f"{who} refused the object for the reason above: correct that field and apply again."


def _not_found(match: re.Match[str], typed: str, _target: str) -> str:
    resource = match["resource"].split(".", 1)[0]
    if resource == "namespaces":
        return "`kubectl get namespaces` lists those there are."
    named = re.search(r"(?:-n|--namespace)[ =](\S+)", typed)
    scope = f"-n {named[1]}" if named else "--all-namespaces"
    return f"`kubectl get {resource} {scope}` lists those there are."


_ADVICE: dict[str, Callable[[re.Match[str], str, str], str]] = {
    "denied": _denied,
    "not_found": _not_found,
    "refused": _refused,
    "unreachable": _unreachable,
    "webhook": _webhook,
}
"""What finds the next step from the match, what was typed, and the cluster's name."""


@functools.cache
def _next_steps() -> tuple[tuple[re.Pattern[str], str], ...]:
    """First match wins. What the server said is kept word for word; only the next step is ours."""
    lines = resources.files("labkit.cluster").joinpath("next_steps.tsv").read_text(encoding="utf-8").splitlines()
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return tuple((re.compile(pattern), step) for pattern, step in rows)


def explain(typed: str, said: str, code: int, target: str) -> ClusterError:
    """The error for a command that failed.

    Args:
        typed: The command, as a learner types it.
        said: What it wrote on its standard error.
        code: Its exit code.
        target: Which cluster.
    """
    said = said.strip() or f"(nothing said; exit code {code})"
    for pattern, step in _next_steps():
        if match := pattern.search(said):
            step = _ADVICE[step[1:]](match, typed, target) if step.startswith("@") else step
            break
    else:
        step = "`kubectl describe` on the object and `kubectl get events` show what happened before."
    first = typed.splitlines()[0]
    shown = said if len(said) <= 4000 else said[:4000] + f"\n… ({len(said) - 4000} more characters)"
    return ClusterError(f"{shown}\n(from `{first}` on {target})", next_step=step, code=code)
