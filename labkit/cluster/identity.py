"""Which cluster answers at an address: the uid of namespace kube-system names one for good."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from labkit.cluster.explain import explain
from labkit.cluster.kubeconfig import Chosen, environment, kubectl_program, variable
from labkit.ground.errors import ClusterError

__all__ = ["QUESTION", "difference", "uid_of"]

QUESTION = "get namespace kube-system -o jsonpath={.metadata.uid}"
"""What kubectl is asked."""

_PATIENCE = 5.0
"""Seconds that the quick way waits for a byte."""


def uid_of(file: Path, shown: str) -> str:
    """The uid of kube-system where this kubeconfig leads.

    Args:
        file: A minified kubeconfig.
        shown: What it is called in an error.

    Raises:
        ClusterError: It cannot be had, with the reason.
    """
    return _quickly(file) or _by_kubectl(file, shown)


def difference(chosen: Chosen, *, thorough: bool) -> str:
    """Whether another cluster answers now than the one that was chosen: a sentence that says so, or "".

    Args:
        chosen: The cluster that was chosen.
        thorough: Whether to ask in any case (as long as a kubectl takes), not only where it costs some milliseconds.

    Raises:
        ClusterError: `thorough`, and nobody answers.
    """
    try:
        context, cluster, _user = _read(chosen.file)
        server = cluster["server"]
    except (OSError, ValueError, LookupError, TypeError, yaml.YAMLError):
        return f"the kubeconfig {chosen.file}, made when {chosen} was chosen, is damaged or gone"
    if context != chosen.context:
        return f"the kubeconfig {chosen.file} was changed: its context is {context}, not {chosen.context}"
    if server != chosen.server:
        return f"the kubeconfig {chosen.file} was changed: it leads to {server}, not to {chosen.server}"
    uid = _quickly(chosen.file) or (_by_kubectl(chosen.file, str(chosen)) if thorough else chosen.uid)
    if uid == chosen.uid:
        return ""
    return (
        f"another cluster than the one that was chosen answers at {chosen.server}: "
        f"the uid of its namespace kube-system is {uid}, not {chosen.uid}"
    )


def _read(file: Path) -> tuple[str, dict[str, str], dict[str, str]]:
    """The current context of a kubeconfig, with its cluster and user; kubectl writes YAML where somebody changed it.

    By their names: what made a cluster in a cell has put it into this file as well.
    """
    text = file.read_text()
    known = json.loads(text) if text.startswith("{") else yaml.safe_load(text)
    current = known["current-context"]
    context = _named(known["contexts"], current)["context"]
    user = _named(known["users"], context["user"])["user"] if context.get("user") else {}
    return current, _named(known["clusters"], context["cluster"])["cluster"], user


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    found = [entry for entry in entries if entry["name"] == name]
    return found[0]


def _quickly(file: Path) -> str:
    """The uid, asked with a request of our own: 5 ms in place of the 60 that a kubectl takes; "" if that is not enough.

    Only with a token and an authority: all other ways to log in, proxies and the like are left to kubectl.
    """
    try:
        _context, cluster, user = _read(file)
        known = {"server", "certificate-authority-data"}
        if set(cluster) != known or set(user) != {"token"} or not cluster["server"].startswith("https://"):
            return ""
        parts = urlsplit(cluster["server"])
        if _by_proxy(parts.hostname or ""):
            return ""
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        connection = http.client.HTTPSConnection(parts.netloc, timeout=_PATIENCE, context=context)
        try:
            path = f"{parts.path.rstrip('/')}/api/v1/namespaces/kube-system"
            connection.request("GET", path, headers={"Authorization": f"Bearer {user['token']}"})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        return str(json.loads(body)["metadata"]["uid"]) if answer.status == 200 else ""
    except (OSError, ValueError, LookupError, TypeError, AttributeError, http.client.HTTPException, yaml.YAMLError):
        return ""


def _by_proxy(host: str) -> bool:
    """Whether kubectl would go through a proxy of the environment, where the direct way may only end in silence."""
    from urllib.request import getproxies_environment, proxy_bypass

    # As Go has it: never to this machine itself.
    local = host == "localhost" or host.startswith("127.")
    return "https" in getproxies_environment() and not local and not proxy_bypass(host)


def _by_kubectl(file: Path, shown: str) -> str:
    typed = f"kubectl {QUESTION}"
    try:
        done = subprocess.run(
            [kubectl_program(), *QUESTION.split()],
            env=environment(variable(file)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(
            f"{typed}\ndid not end within 60 s", next_step=f"Is the cluster well? `kubectl get nodes` on {shown}."
        ) from None
    if done.returncode != 0 or not done.stdout.strip():
        raise explain(typed, done.stderr or done.stdout, done.returncode, shown)
    return done.stdout.strip()
