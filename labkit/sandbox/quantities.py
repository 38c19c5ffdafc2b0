"""Kubernetes quantities, e.g. "100m", "64Mi", "4G"."""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation

__all__ = ["parse", "share"]

_FACTORS = {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1)}
_FACTORS |= {suffix: Decimal(1000) ** n for n, suffix in enumerate(("k", "M", "G", "T", "P", "E"), 1)}
_FACTORS |= {suffix: Decimal(1024) ** n for n, suffix in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)}


def parse(quantity: str | int | float) -> Decimal:
    """The number behind `quantity`.

    Raises:
        ValueError: it is not a quantity.
    """
    text = str(quantity).strip()
    digits = text.rstrip("numkMGTPEi")
    suffix = text[len(digits) :]
    # The E of "1E3" is an exponent, that of "1E" a suffix; Decimal reads the first.
    try:
        if suffix in _FACTORS:
            return Decimal(digits) * _FACTORS[suffix]
    except InvalidOperation:
        pass
    raise ValueError(f"{text!r} is not a quantity such as 100m or 64Mi")


def share(quantity: str | int | float, divisor: str | int | float = 1) -> int:
    """`quantity` in units of `divisor`, rounded up, as resourceFieldRef gives it."""
    return math.ceil(parse(quantity) / (parse(divisor) or 1))
