# SPDX-License-Identifier: Apache-2.0
"""References of environments and of volumes to fields of their pod, and to resources of its containers."""

from __future__ import annotations

from labkit.ground import quantity as quantities
from labkit.ground.names import qualified_name
from meshbox.api.problems import Cause, invalid, not_supported, required
from meshbox.contracts import Obj

__all__ = ["field_path", "resource_field"]

_LABELS = frozenset(
    {
        "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid",
        "spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName", "status.phase",
        "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
    }
)  # fmt: skip
"""Fields of a pod that may be named at all; which of them, depends on where."""

_BYTES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_RESOURCE_FIELDS = tuple(
    f"{kind}.{name}" for kind in ("limits", "requests") for name in ("cpu", "ephemeral-storage", "memory")
)


def field_path(reference: Obj, path: str, causes: list[Cause], known: tuple[str, ...]) -> None:
    """A field of the pod, one of those `known` or a label or annotation of it."""
    text, version, where = reference.get("fieldPath") or "", reference.get("apiVersion") or "", f"{path}.fieldPath"
    head, bracket, rest = text.partition("['")
    if not version:
        causes.append(required(f"{path}.apiVersion"))
    elif not text:
        causes.append(required(where))
    elif version != "v1":
        causes.append(invalid(where, text, f"error converting fieldPath: unsupported pod version: {version}"))
    elif bracket and rest.endswith("']") and head in ("metadata.annotations", "metadata.labels"):
        key = rest[:-2]
        key = key.lower() if head.endswith("annotations") else key
        causes += [invalid(path, key, words) for words in qualified_name(key)]
    elif bracket and rest.endswith("']"):
        causes.append(
            invalid(where, text, f"error converting fieldPath: field label does not support subscript: {text}")
        )
    elif text not in known:
        if text in _LABELS:
            causes.append(not_supported(where, text, known))
        else:
            causes.append(invalid(where, text, f"error converting fieldPath: field label not supported: {text}"))


def resource_field(reference: Obj, path: str, causes: list[Cause], *, named: bool = False) -> None:
    """A resource that a container has requests and limits of, which has to be `named` in a volume."""
    text = reference.get("resource") or ""
    kind, _, name = text.partition(".")
    huge = kind in ("limits", "requests") and name.startswith("hugepages-")
    if named and not reference.get("containerName"):
        causes.append(required(f"{path}.containerName"))
    elif not text:
        causes.append(required(f"{path}.resource"))
    elif text not in _RESOURCE_FIELDS and not huge:
        causes.append(not_supported(f"{path}.resource", text, _RESOURCE_FIELDS))
    divisor = str(quantities.Quantity.of(reference.get("divisor") or 0))
    wanted, listed = (("1m", "1"), "1m and 1") if name == "cpu" else (_BYTES, ", ".join(_BYTES))
    if (text in _RESOURCE_FIELDS or huge) and divisor not in ("0", *wanted):
        of = "hugepages" if huge else "local ephemeral storage" if name == "ephemeral-storage" else name
        words = f"only divisor's values {listed} are supported with the {of} resource"
        causes.append(invalid(f"{path}.divisor", text, words))
