"""Kubernetes quantities, e.g. "100m", "64Mi", "65536Ki", "4G", "1e3": the one place that reads and writes them."""

from __future__ import annotations

import math
import re
from decimal import ROUND_UP, Context, Decimal

__all__ = ["parse", "problem", "share", "written"]

_FORM = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_EXPONENT = re.compile(r"[eE][+-]?[0-9]+")
_FACTORS = {
    "": Decimal(1),
    **{suffix: Decimal(10) ** (3 * power) for power, suffix in zip((-3, -2, -1), "num", strict=True)},
    **{suffix: Decimal(10) ** (3 * power) for power, suffix in enumerate("kMGTPE", 1)},
    **{f"{suffix}i": Decimal(2) ** (10 * power) for power, suffix in enumerate("KMGTPE", 1)},
}
_MALFORMED = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_MOST = Decimal(2**63 - 1)
_LEAST = Decimal("1e-9")
_FAR = Decimal(999_999)
_EXACT = Context(prec=80, rounding=ROUND_UP, traps=[])
"""More digits than any number between the least and the most has; what is beyond is infinite, or next to 0."""


def problem(value: str | int | float) -> str:
    """Why `value` is not a quantity, in Kubernetes' words; "" where it is one."""
    found = _FORM.fullmatch(str(value))
    if found is None or not _NUMBER.fullmatch(found[1]):
        return _MALFORMED
    return "" if found[2] in _FACTORS or _EXPONENT.fullmatch(found[2]) else "unable to parse quantity's suffix"


def parse(value: str | int | float) -> Decimal:
    """The number behind a quantity, e.g. 0.1 for "100m".

    As in Kubernetes, what is beyond ±(2⁶³ - 1) becomes that, and what is finer than 1n is rounded away from zero to it.

    Raises:
        ValueError: it is not a quantity.
    """
    text = str(value)
    if problem(text):
        raise ValueError(f"{text[:80]!r} is not a quantity such as 100m or 64Mi")
    number, suffix = _split(text)
    amount = _EXACT.create_decimal(number)
    if suffix in _FACTORS:
        amount = _EXACT.multiply(amount, _FACTORS[suffix])
    else:
        # An exponent of a thousand digits says no more than one of six.
        amount = _EXACT.scaleb(amount, max(-_FAR, min(_FAR, _EXACT.create_decimal(suffix[1:]))))
    if abs(amount) >= _MOST:
        return _MOST.copy_sign(amount)
    least = amount.quantize(_LEAST, context=_EXACT)
    return amount if least == amount else least


def _split(text: str) -> tuple[str, str]:
    found = _FORM.fullmatch(text)
    assert found is not None
    return found[1], found[2]


def share(quantity: str | int | float, divisor: str | int | float = 1) -> int:
    """`quantity` in units of `divisor` ("0" stands for 1), rounded up, as resourceFieldRef gives it.

    Raises:
        ValueError: one of them is not a quantity.
    """
    return math.ceil(_EXACT.divide(parse(quantity), parse(divisor) or Decimal(1)))


def written(value: Decimal) -> str:
    """A number as Kubernetes writes it: "1500m", "64Mi", "3"."""
    if value != value.to_integral_value():
        return f"{math.ceil(value * 1000)}m"
    whole = int(value)
    for power, suffix in ((4, "Ti"), (3, "Gi"), (2, "Mi"), (1, "Ki")):
        if whole and whole % 1024**power == 0:
            return f"{whole // 1024**power}{suffix}"
    return str(whole)
