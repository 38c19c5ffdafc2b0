# SPDX-License-Identifier: Apache-2.0
"""Asking the cluster in use by one kept connection: objects as dictionaries, tables as frames."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from labkit.cluster import client as clients
from labkit.cluster import resources, running
from labkit.cluster import target as targets
from labkit.cluster.client import Client, Obj
from labkit.ground.errors import ClusterError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "api_versions",
    "connected",
    "exists",
    "get",
    "items",
    "log",
    "may",
    "patch",
    "selection",
    "server_version",
    "table",
]

_TABLE = "application/json;as=Table;v={};g=meta.k8s.io"
_AS_TABLE = ",".join((_TABLE.format("v1"), _TABLE.format("v1beta1"), "application/json"))


def connected(*, write: bool = False) -> Client:
    """The way to the cluster in use, once it is certain that no other has come to its address.

    Args:
        write: Whether it is going to be changed.

    Raises:
        NoTargetError: No cluster was chosen, or another one than that answers now.
        ClusterError: Nobody answers, and it was to be changed.
    """
    target = targets.checked(write=write)
    return clients.of(target.file, str(target))


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
    words = selection(kind, name, namespace, labels, all_namespaces)
    if show:
        running.kubectl([*words, *(["--ignore-not-found"] if name else []), "-o", "json"], show=True)
    found: list[Obj] = []
    for answer in _answers(words, kind, name, namespace, labels, all_namespaces, "application/json"):
        found += items(answer) if "items" in answer else [answer]
    return found


def items(answer: Obj) -> list[Obj]:
    """The objects of a list, which do not say themselves there what they are."""
    about = {"kind": answer["kind"].removesuffix("List"), "apiVersion": answer["apiVersion"]}
    return [{**about, **item} for item in answer["items"] or []]


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
    """kubectl's own table as a DataFrame: one row an object, kubectl's columns.

    Columns of whole numbers are Int64, of numbers float64, all others strings; a date is how long ago it was.

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

    words = selection(kind, name, namespace, labels, all_namespaces)
    if show:
        running.kubectl([*words, *(["-o", "wide"] if wide else [])], show=True)
    columns: list[Obj] = []
    rows: list[Obj] = []
    for answer in _answers(words, kind, name, namespace, labels, all_namespaces, _AS_TABLE):
        if answer["kind"] != "Table":
            raise ClusterError(f"the server makes no table of {kind}", next_step="`cluster.get` gives the objects.")
        if columns not in ([], answer["columnDefinitions"]):
            raise ClusterError(f"{kind} are several kinds, and a table is of one", next_step="Ask for each by itself.")
        columns = answer["columnDefinitions"]
        rows += answer["rows"] or []
    frame: dict[str, pd.Series] = {}
    if all_namespaces and any(spaces := [_namespace(row) for row in rows]):
        frame["NAMESPACE"] = pd.Series(spaces, dtype="str")
    for n, column in enumerate(columns):
        if wide or not column.get("priority"):
            frame[column["name"].upper()] = _typed(column["type"], [row["cells"][n] for row in rows])
    return pd.DataFrame(frame)


def _namespace(row: Obj) -> str:
    return str(((row.get("object") or {}).get("metadata") or {}).get("namespace", ""))


def _typed(kind: str, cells: list[Any]) -> pd.Series:
    import pandas as pd

    if kind in ("integer", "number"):
        numbers = pd.to_numeric(pd.Series(cells, dtype="object"), errors="coerce")
        return numbers.astype("Int64" if kind == "integer" else "float64")
    # As kubectl prints them; a date is an age already.
    words = ["" if one is None else str(one).lower() if isinstance(one, bool) else str(one) for one in cells]
    return pd.Series(words, dtype="str")


def selection(kind: str, name: str = "", namespace: str = "", labels: str = "", everywhere: bool = False) -> list[str]:
    """The words with which kubectl would be asked the same."""
    where = [*(["-n", namespace] if namespace else []), *(["--all-namespaces"] if everywhere else [])]
    return ["get", kind, *([name] if name else []), *where, *(["-l", labels] if labels else [])]


def _answers(
    words: list[str], kinds: str, name: str, namespace: str, labels: str, everywhere: bool, accept: str
) -> Iterator[Obj]:
    client, typed = connected(), f"kubectl {shlex.join(words)}"
    where = "" if everywhere else namespace or client.namespace
    query = {"labelSelector": labels} if labels else {}
    for resource in resources.find(client, kinds, typed):
        status, answer = client.send(typed, resource.path(where, quote(name, safe="")), query=query, accept=accept)
        if status == 404 and name and accept != _AS_TABLE and (answer.get("details") or {}).get("name"):
            continue
        if status == 404 and resource not in resources.all_of(client, fresh=True):
            # Its CustomResourceDefinition is gone by now, which is no fault where it is one of many.
            if "," in kinds:
                continue
            resources.find(client, resource.name, typed)
        if status >= 400:
            raise client.refusal(typed, status, answer)
        yield answer


def log(pod: str, container: str, *, namespace: str, last: int) -> str:
    """The last lines that a container of a pod has written, as `kubectl logs --tail` gives them.

    Args:
        pod: The pod's name.
        container: The container's.
        namespace: The pod's.
        last: How many lines, from 1.

    Raises:
        ClusterError: There is no such container, or it has not begun.
    """
    typed = f"kubectl logs {pod} -c {container} -n {namespace} --tail={last}"
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    query = {"container": container, "tailLines": str(last)}
    return str(connected().ask(typed, path, query=query, plain=True)["message"])


def patch(change: Obj, *which: tuple[str, str, str], gone: bool = False) -> None:
    """Change the metadata of objects by a merge patch.

    Args:
        change: What metadata is to have; None takes away.
        which: Of each its kind as kubectl takes it, its namespace ("" for none) and its name.
        gone: Whether they may be gone by now.

    Raises:
        NoTargetError: Another cluster than the chosen one answers.
        ClusterError: It refused, or nobody answers.
    """
    client = connected(write=True)
    for kind, namespace, name in which:
        typed = shlex.join(["kubectl", "patch", kind, name, *(["-n", namespace] if namespace else []), "--type=merge"])
        path = resources.find(client, kind, typed)[0].path(namespace, quote(name, safe=""))
        status, answer = client.send(typed, path, method="PATCH", body={"metadata": change})
        if status >= 400 and not (gone and status == 404):
            raise client.refusal(typed, status, answer)


def server_version() -> str:
    """The Kubernetes that the cluster is, "v1.35.0"; errors as of `get`."""
    return str(connected().ask("kubectl version", "/version")["gitVersion"])


def api_versions() -> set[str]:
    """Groups with their versions, as `kubectl api-versions` prints them; errors as of `get`."""
    return {one.api_version for one in resources.all_of(connected(), fresh=True)}


def may(verb: str, resource: str) -> bool:
    """Whether this user may do something with a kind, named as "clusterroles.rbac.authorization.k8s.io".

    Raises:
        ClusterError: The cluster does not answer.
    """
    name, _, group = resource.partition(".")
    asked = {"spec": {"resourceAttributes": {"verb": verb, "resource": name, "group": group}}}
    about = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}
    path, typed = f"/apis/{about['apiVersion']}/selfsubjectaccessreviews", f"kubectl auth can-i {verb} {resource}"
    return bool(connected().ask(typed, path, method="POST", body={**about, **asked})["status"]["allowed"])
