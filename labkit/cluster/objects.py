"""Reading objects: as dictionaries for models, as kubectl's own table for people."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.cluster.kubectl import Output, kubectl
from labkit.ground.errors import ClusterError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Obj", "delete_namespace", "exec", "exists", "get", "table"]

Obj = dict[str, Any]
"""A Kubernetes object, as its JSON gives it."""


def _selection(kind: str, name: str, namespace: str, labels: str, all_namespaces: bool) -> list[str]:
    words = ["get", kind, *([name] if name else [])]
    if namespace:
        words += ["-n", namespace]
    if all_namespaces:
        words += ["--all-namespaces"]
    if labels:
        words += ["-l", labels]
    return words


def get(
    kind: str,
    name: str = "",
    *,
    namespace: str = "",
    labels: str = "",
    all_namespaces: bool = False,
    show: bool = False,
) -> list[Obj]:
    """Objects, as `kubectl get … -o json` gives them.

    Args:
        kind: A kind as kubectl takes it; several with commas: "pods,events".
        name: One object's name; then the list has that object, or none where there is none.
        namespace: "" for the context's own.
        labels: A label selector, "app=ratings".
        all_namespaces: Whether to look in all of them.
        show: Whether to show the command and the JSON.

    Raises:
        ClusterError: The kind is not served, or the cluster does not answer.
    """
    words = _selection(kind, name, namespace, labels, all_namespaces)
    if name:
        words.append("--ignore-not-found")
    text = kubectl([*words, "-o", "json"], show=show)
    if not text.strip():
        return []
    answer: Obj = json.loads(text)
    return answer["items"] if answer["kind"] == "List" or "items" in answer else [answer]


def exists(kind: str, name: str, *, namespace: str = "") -> bool:
    """Whether there is an object of that name (False as well where its kind is not served)."""
    try:
        return bool(get(kind, name, namespace=namespace))
    except ClusterError as error:
        if "doesn't have a resource type" in error.message:
            return False
        raise


def table(
    kind: str,
    name: str = "",
    *,
    namespace: str = "",
    labels: str = "",
    all_namespaces: bool = False,
    wide: bool = False,
    show: bool = True,
) -> pd.DataFrame:
    """kubectl's own table as a DataFrame: one row an object, kubectl's columns (all strings).

    Args:
        kind: A kind as kubectl takes it.
        name: One object's name; "" for all.
        namespace: "" for the context's own.
        labels: A label selector.
        all_namespaces: Whether to look in all of them; adds the column NAMESPACE.
        wide: Whether to ask for `-o wide`.
        show: Whether to show the command and the table as kubectl prints it.

    Raises:
        ClusterError: The kind is not served, or the cluster does not answer.
    """
    import pandas as pd

    words = _selection(kind, name, namespace, labels, all_namespaces)
    columns, rows = parse_table(kubectl([*words, "-o", "wide"] if wide else words, show=show))
    return pd.DataFrame(rows, columns=columns, dtype="str")


def parse_table(text: str) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table that kubectl printed; columns are where their headings begin."""
    lines = text.splitlines()
    if not lines:
        return [], []
    # kubectl pads with three spaces; a heading such as "NOMINATED NODE" has single ones inside.
    headings = [(match.start(), match[0]) for match in re.finditer(r"\S+(?: \S+)*", lines[0])]
    starts = [start for start, _name in headings]
    ends = [*starts[1:], None]
    rows = [[line[a:b].strip() for a, b in zip(starts, ends, strict=True)] for line in lines[1:] if line.strip()]
    return [name for _start, name in headings], rows


def exec(  # kubectl's own verb
    pod: str,
    command: str | Sequence[str],
    *,
    container: str = "",
    namespace: str = "",
    show: bool = True,
    timeout: float = 60.0,
) -> Output:
    """Run a command in a container, as `kubectl exec` does.

    Args:
        pod: A pod's name, or "deploy/NAME" for any pod of a Deployment.
        command: The command, without a shell.
        container: Which container; "" for the pod's default one.
        namespace: "" for the context's own.
        show: Whether to show the command and its output.
        timeout: Seconds.

    Returns:
        Its standard output.

    Raises:
        ClusterError: The pod or container is not there, or the command failed.
    """
    words = ["exec", pod, *(["-n", namespace] if namespace else []), *(["-c", container] if container else []), "--"]
    words += shlex.split(command) if isinstance(command, str) else list(command)
    return kubectl(words, show=show, timeout=timeout)


def delete_namespace(name: str, *, show: bool = True, timeout: float = 180.0) -> Output:
    """Delete a namespace with all it holds, and wait until it is gone; none there is no fault."""
    return kubectl(["delete", "namespace", name, "--ignore-not-found"], show=show, timeout=timeout)
