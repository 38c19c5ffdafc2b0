# SPDX-License-Identifier: Apache-2.0
"""From what kubectl says when it fails to an error with a next step."""

from __future__ import annotations

import re
from collections.abc import Callable

from labkit.ground.errors import ClusterError

__all__ = ["explain"]

_Advice = str | Callable[[re.Match[str], str], str]


def _not_found(match: re.Match[str], typed: str) -> str:
    resource = match["resource"].split(".", 1)[0]
    if resource == "namespaces":
        return "`kubectl get namespaces` lists those there are."
    named = re.search(r"(?:-n|--namespace)[ =](\S+)", typed)
    scope = f"-n {named[1]}" if named else "--all-namespaces"
    return f"`kubectl get {resource} {scope}` lists those there are."


# First match wins. What the server said is kept word for word; only the next step is ours.
_NEXT_STEPS: tuple[tuple[str, _Advice], ...] = (
    (
        r"The connection to the server (?P<server>\S+) was refused|connect: connection refused",
        "Nothing answers at that address. `labkit up` starts the sandbox, `labkit status` says what runs; if its "
        "address is another now, run the lesson's first cell again.",
    ),
    (r"no such host|i/o timeout|no route to host|network is unreachable",
     "The cluster's address cannot be reached from here: check the server in the kubeconfig, VPN and proxy."),
    (r"x509:|certificate signed by unknown authority",
     "The server's certificate is not the one this kubeconfig trusts: is it the kubeconfig of this cluster? If the "
     "cluster was made anew, run the lesson's first cell again."),
    (r"Unauthorized|must be logged in|the server has asked for the client to provide credentials",
     "The kubeconfig's credentials were refused: fetch it anew (`eval \"$(labkit env)\"` for the sandbox), then run "
     "the lesson's first cell again."),
    (r"\(Forbidden\).*exceeded quota", "`kubectl describe resourcequota` in that namespace shows what is used up."),
    (r"\(Forbidden\)", "This user may not do that: `kubectl auth can-i --list` shows what it may."),
    (r"context was not found for specified context: (?P<context>\S+)|context \"?[^\"]+\"? does not exist",
     "`kubectl config get-contexts` lists the contexts there are."),
    (r"no matches for kind \"(?P<kind>\w+)\" in version \"(?P<version>\S*istio\.io\S*)\"",
     "Istio's own kinds are not there (yet): apply the release's CRDs first (`kubectl get crd | grep istio`)."),
    (r"no matches for kind \"(?P<kind>\w+)\" in version \"(?P<version>\S+)\"",
     "`kubectl api-resources` lists what this cluster serves; is the manifest made for another Kubernetes?"),
    (r"doesn't have a resource type \"(?P<kind>[^\"]+)\"",
     "`kubectl api-resources` lists the kinds there are. A kind of Istio's appears once its CRDs are applied."),
    (r"\(NotFound\): (?P<resource>\S+) \"(?P<name>[^\"]+)\" not found", _not_found),
    (r"\(AlreadyExists\)", "It is there already: `kubectl apply` updates it, `kubectl delete` removes it."),
    (r"\(Conflict\)", "Somebody changed the object meanwhile: run the command again."),
    (r"strict decoding error: |unknown field|cannot unmarshal",
     "Correct the field named above; `kubectl explain KIND.spec` lists the fields there are."),
    (r"admission webhook", "Istio refused the object for the reason above: correct that field and apply again."),
    (r"is invalid: |\(Invalid\)|ValidationError", "Correct the field named above and apply again."),
    (r"error converting YAML|error parsing ", "Correct the YAML at the line named above: an indent, a tab or a colon."),
    (r"Object 'Kind' is missing|kind not set|apiVersion not set",
     "Every object needs apiVersion, kind and metadata.name: is this a manifest?"),
    (r"the path \"(?P<path>[^\"]+)\" does not exist", "Check the path; relative ones start at this notebook's folder."),
    (r"container not found|container \S+ is not valid for pod|container \S+ not found",
     "`kubectl get pod POD -o jsonpath='{.spec.containers[*].name}'` lists its containers."),
    (r"unable to forward port because pod is not running|is not running",
     "`kubectl describe pod POD` says in its events why it does not run."),
    (r"command terminated with exit code", "The container was reached; the command in it failed for the reason above."),
    (r"unknown command|unknown flag|unknown shorthand flag|needs an argument",
     "`kubectl --help` and `kubectl VERB --help` list what there is."),
    (r"No space left on device", "The disk is full: make room, then run the cell again; nothing was lost."),
)  # fmt: skip


def explain(typed: str, said: str, code: int, target: str) -> ClusterError:
    """The error for a command that failed.

    Args:
        typed: The command, as a learner types it.
        said: What it wrote on its standard error.
        code: Its exit code.
        target: Which cluster.
    """
    said = said.strip() or f"(nothing said; exit code {code})"
    for pattern, advice in _NEXT_STEPS:
        match = re.search(pattern, said)
        if match:
            step = advice if isinstance(advice, str) else advice(match, typed)
            break
    else:
        step = "`kubectl describe` on the object and `kubectl get events` show what happened before."
    first = typed.splitlines()[0]
    shown = said if len(said) <= 4000 else said[:4000] + f"\n… ({len(said) - 4000} more characters)"
    return ClusterError(f"{shown}\n(from `{first}` on {target})", next_step=step, code=code)
