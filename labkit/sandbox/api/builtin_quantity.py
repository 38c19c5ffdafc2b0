"""Quantities ("100m", "1Gi") and what may be said with them about resources."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from labkit.sandbox.api.builtin_names import NON_NEGATIVE, as_dict, qualified_name
from labkit.sandbox.api.schema_problems import Cause, invalid
from labkit.sandbox.contracts import Obj

__all__ = ["quantity", "resources"]

_FACTORS = {
    "n": Decimal(10) ** -9,
    "u": Decimal(10) ** -6,
    "m": Decimal(10) ** -3,
    "": Decimal(1),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}
_STANDARD = ("cpu", "memory", "ephemeral-storage")


def quantity(value: Any) -> Decimal:
    """The number behind a quantity that decoded well, e.g. 0.1 for "100m"."""
    text = str(value)
    digits = text.rstrip("numkKMGTPEi")
    factor = _FACTORS.get(text[len(digits) :])
    if factor is None or digits in ("", "+", "-"):
        return Decimal(0)
    # An exponent beyond these is of no use, and costs memory.
    mantissa, _, exponent = digits.replace("E", "e").partition("e")
    if exponent and abs(int(exponent)) > 30:
        return Decimal(0)
    return Decimal(digits if exponent else mantissa) * factor


def resources(wanted: Obj, path: str, causes: list[Cause]) -> None:
    """Check `requests` and `limits` of a container."""
    limits, requests = as_dict(wanted.get("limits")), as_dict(wanted.get("requests"))
    for field, listed in (("limits", limits), ("requests", requests)):
        for name, value in listed.items():
            where = f"{path}.{field}[{name}]"
            _resource_name(name, f"{path}.{field}", causes)
            if value is not None and quantity(value) < 0:
                causes.append(invalid(where, str(value), NON_NEGATIVE))
    for name, value in requests.items():
        limit = limits.get(name)
        if limit is not None and value is not None and quantity(value) > quantity(limit):
            detail = f"must be less than or equal to {name} limit of {limit}"
            causes.append(invalid(f"{path}.requests", str(value), detail))


def _resource_name(name: str, path: str, causes: list[Cause]) -> None:
    said = qualified_name(name)
    causes += [invalid(path, name, words) for words in said]
    if said or "/" in name or name in _STANDARD or name.startswith("hugepages-"):
        return
    causes.append(invalid(path, name, "must be a standard resource type or fully qualified"))
    causes.append(invalid(path, name, "must be a standard resource for containers"))
