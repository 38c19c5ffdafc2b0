# SPDX-License-Identifier: Apache-2.0
"""What is found wrong with an object: codes, severities and words of Kiali 1.31, whose console shows them.

Later versions have more (KIA0005, KIA0106, KIA0602, KIA1007, KIA1201, KIA1301) and look into other namespaces, where
1.31 says with KIA0001 that it does not know; that is no part of the console's API, and so none of it is said here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

__all__ = ["MESSAGES", "Finding", "Reference", "found", "validation"]

Json = dict[str, Any]
_ERROR, _WARNING, _UNKNOWN = "error", "warning", "unknown"
_REGISTRY = "This host has no matching entry in the service registry"
MESSAGES = {
    "KIA0001": (
        _UNKNOWN,
        "Unable to verify the validity, cross-namespace validation is not supported for this field",
    ),
    "KIA0002": (_ERROR, "More than one selector-less object in the same namespace"),
    "KIA0003": (_ERROR, "More than one object applied to the same workload"),
    "KIA0004": (_WARNING, "No matching workload found for the selector in this namespace"),
    "KIA0101": (_WARNING, "Namespace not found for this rule"),
    "KIA0102": (_WARNING, "Only HTTP methods and fully-qualified gRPC names are allowed"),
    "KIA0104": (_ERROR, _REGISTRY),
    "KIA0105": (_ERROR, "This field requires mTLS to be enabled"),
    "KIA0201": (_WARNING, "More than one DestinationRules for the same host subset combination"),
    "KIA0202": (_ERROR, f"{_REGISTRY} (service, workload or service entries)"),
    "KIA0203": (_ERROR, "This subset's labels are not found in any matching host"),
    "KIA0204": (_WARNING, "mTLS settings of a non-local Destination Rule are overridden"),
    "KIA0205": (_ERROR, "PeerAuthentication enabling mTLS at mesh level is missing"),
    "KIA0206": (_ERROR, "PeerAuthentication enabling namespace-wide mTLS is missing"),
    "KIA0207": (_ERROR, "PeerAuthentication with TLS strict mode found, it should be permissive"),
    "KIA0208": (_ERROR, "PeerAuthentication enabling mTLS found, permissive mode needed"),
    "KIA0209": (_WARNING, "This subset has not labels"),
    "KIA0301": (_WARNING, "More than one Gateway for the same host port combination"),
    "KIA0302": (_WARNING, "No matching workload found for gateway selector in this namespace"),
    "KIA0401": (_ERROR, "Mesh-wide Destination Rule enabling mTLS is missing"),
    "KIA0501": (_ERROR, "Destination Rule enabling namespace-wide mTLS is missing"),
    "KIA0505": (_ERROR, "Destination Rule disabling namespace-wide mTLS is missing"),
    "KIA0506": (_ERROR, "Destination Rule disabling mesh-wide mTLS is missing"),
    "KIA0601": (_ERROR, "Port name must follow <protocol>[-suffix] form"),
    "KIA0701": (_WARNING, "Deployment exposing same port as Service not found"),
    "KIA1003": (_ERROR, "Invalid host format. 'namespace/dnsName' format expected"),
    "KIA1004": (_WARNING, _REGISTRY),
    "KIA1006": (_WARNING, "Global default sidecar should not have workloadSelector"),
    "KIA1101": (_ERROR, "DestinationWeight on route doesn't have a valid service (host not found)"),
    "KIA1102": (_ERROR, "VirtualService is pointing to a non-existent gateway"),
    "KIA1103": (_ERROR, "VirtualService doesn't define any valid route protocol"),
    "KIA1104": (_WARNING, "The weight is assumed to be 100 because there is only one route destination"),
    "KIA1105": (_WARNING, "This subset is already referenced in another route destination"),
    "KIA1106": (_WARNING, "More than one Virtual Service for same host"),
    "KIA1107": (_WARNING, "Subset not found"),
    "KIA1108": (_UNKNOWN, "Preferred nomenclature: <gateway namespace>/<gateway name>"),
}

Reference = tuple[str, str, str]
"""Another object that has to do with it: type as validations call it, namespace, name."""


class Finding(NamedTuple):
    """One thing that is wrong.

    Args:
        code: A key of MESSAGES.
        path: Where in the object, "spec/http[0]/route[1]/destination".
        references: The objects it is in conflict with.
    """

    code: str
    path: str
    references: tuple[Reference, ...] = ()


def found(code: str, *paths: str) -> Iterator[Finding]:
    """The same at several places."""
    return (Finding(code, path) for path in paths)


def validation(kind: str, name: str, findings: Iterable[Finding]) -> Json:
    """An object's validation as the console takes it: each finding once, however many checks came upon it."""
    checks: list[Json] = []
    others: dict[Reference, None] = {}
    for one in findings:
        severity, message = MESSAGES[one.code]
        check = {"code": one.code, "message": f"{one.code} {message}", "severity": severity, "path": one.path}
        if check not in checks:
            checks.append(check)
        others |= dict.fromkeys(one.references)
    valid = not any(check["severity"] == _ERROR for check in checks)
    references = [{"objectType": kind, "namespace": place, "name": other} for kind, place, other in others]
    return {"name": name, "objectType": kind, "valid": valid, "checks": checks, "references": references or None}
