# SPDX-License-Identifier: Apache-2.0
"""Which cluster answers at an address: the uid of namespace kube-system names one for good."""

from __future__ import annotations

from pathlib import Path

import yaml

from labkit.cluster import client
from labkit.cluster.kubeconfig import Chosen
from labkit.ground.errors import ClusterError

__all__ = ["difference", "uid_of"]

_QUESTION = "kubectl get namespace kube-system -o jsonpath={.metadata.uid}"
_SHORT = 5.0
"""Seconds that it is waited for before what only reads."""


def uid_of(file: Path, shown: str, patience: float = 0.0) -> str:
    """The uid of kube-system where this kubeconfig leads.

    Args:
        file: A minified kubeconfig.
        shown: What it is called in an error.
        patience: Seconds without an answer; 0 for the client's own.

    Raises:
        ClusterError: It cannot be had, with the reason.
    """
    answer = client.of(file, shown).ask(_QUESTION, "/api/v1/namespaces/kube-system", patience=patience)
    return str(answer["metadata"]["uid"])


def difference(chosen: Chosen, *, thorough: bool) -> str:
    """Whether another cluster answers now than the one that was chosen: a sentence that says so, or "".

    Args:
        chosen: The cluster that was chosen.
        thorough: Whether it is a fault if nobody answers.

    Raises:
        ClusterError: `thorough`, and nobody answers.
    """
    try:
        context, cluster, _user = client.parts(chosen.file.read_text())
        server = cluster["server"]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return f"the kubeconfig {chosen.file}, made when {chosen} was chosen, is damaged or gone"
    if context["name"] != chosen.context:
        return f"the kubeconfig {chosen.file} was changed: its context is {context['name']}, not {chosen.context}"
    if server != chosen.server:
        return f"the kubeconfig {chosen.file} was changed: it leads to {server}, not to {chosen.server}"
    try:
        uid = uid_of(chosen.file, str(chosen), 0.0 if thorough else _SHORT)
    except ClusterError:
        if thorough:
            raise
        return ""
    if uid == chosen.uid:
        return ""
    return (
        f"another cluster than the one that was chosen answers at {chosen.server}: "
        f"the uid of its namespace kube-system is {uid}, not {chosen.uid}"
    )
