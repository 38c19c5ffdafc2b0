# SPDX-License-Identifier: Apache-2.0
"""What may be said about resources with quantities such as "100m" and "1Gi"."""

from __future__ import annotations

from labkit.ground import quantity as quantities
from labkit.ground.names import qualified_name
from meshbox.api.builtin.rules import Context, call
from meshbox.api.builtin.well_formed import NON_NEGATIVE, as_dict
from meshbox.api.problems import Cause, forbidden, invalid, required
from meshbox.contracts import Obj

__all__ = ["STANDARD_RESOURCES", "resource_name"]

_STANDARD = ("cpu", "memory", "ephemeral-storage")
STANDARD_RESOURCES = frozenset(
    {
        *_STANDARD,
        "storage",
        "requests.storage",
        *(f"{kind}.{one}" for kind in ("requests", "limits") for one in _STANDARD),
    }
    | {
        "pods",
        "services",
        "secrets",
        "configmaps",
        "replicationcontrollers",
        "resourcequotas",
        "persistentvolumeclaims",
    }
    | {"services.nodeports", "services.loadbalancers"}
)
"""What has a name that is Kubernetes' own, whatever may have it."""


@call("resources")
def _resources(wanted: Obj, path: str, causes: list[Cause], context: Context) -> None:
    """Check `requests` and `limits` of a container."""
    limits, requests = as_dict(wanted.get("limits")), as_dict(wanted.get("requests"))
    for field, listed in (("limits", limits), ("requests", requests)):
        for name, value in sorted(listed.items()):
            where = f"{path}.{field}[{name}]"
            resource_name(name, where, causes, context)
            if value is not None and quantities.parse(value) < 0:
                causes.append(invalid(where, str(value), NON_NEGATIVE))
            amount = quantities.parse(value or 0)
            if "/" in name and amount % 1:
                causes.append(invalid(where, str(value), "must be an integer"))
            limit = limits.get(name)
            exact = name.startswith("hugepages-") or ("/" in name and "kubernetes.io/" not in name)
            if field == "limits":
                continue
            if limit is None:
                if exact:
                    causes.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
            elif exact and amount != quantities.parse(limit):
                causes.append(invalid(f"{path}.requests", str(value), f"must be equal to {name} limit of {limit}"))
            elif amount > quantities.parse(limit):
                detail = f"must be less than or equal to {name} limit of {limit}"
                causes.append(invalid(f"{path}.requests", str(value), detail))
    names = limits.keys() | requests.keys()
    if not names & {"cpu", "memory"} and any(name.startswith("hugepages-") for name in names):
        causes.append(forbidden(path, "HugePages require cpu or memory"))


@call("resource_name")
def resource_name(name: str, path: str, causes: list[Cause], _context: Context) -> None:
    """Check the name of a resource that containers may have."""
    said = qualified_name(name)
    causes += [invalid(path, name, words) for words in said]
    if said or "/" in name or name in _STANDARD or name.startswith("hugepages-"):
        return
    if name not in STANDARD_RESOURCES:
        causes.append(invalid(path, name, "must be a standard resource type or fully qualified"))
    causes.append(invalid(path, name, "must be a standard resource for containers"))
