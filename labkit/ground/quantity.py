# SPDX-License-Identifier: Apache-2.0
"""Kubernetes quantities, e.g. "100m", "64Mi", "65536Ki", "4G", "1e3": the one place that reads and writes them."""

from __future__ import annotations

import functools
import math
import re
from decimal import ROUND_UP, Context, Decimal

__all__ = ["Quantity", "parse", "problem", "share"]

_FORM = re.compile(r"([+-]?[0-9]*\.?[0-9]*)([eEinumkKMGTP]*[-+]?[0-9]*)")
_EXPONENT = re.compile(r"[eE]([+-]?)(?=[0-9])0*([0-9]*)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {f"{suffix}i": 1024**power for power, suffix in enumerate("KMGTPE", 1)}
_SUFFIXES = {power: suffix for suffix, power in _DECIMAL.items()}
_MALFORMED = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_MOST = Decimal(2**63 - 1)
_LEAST = Decimal("1e-9")
_FAR = Decimal("1e300")
"""What is larger counts as this, in any form: a number without bounds could be written in ten bytes and fill memory."""
_EXACT = Context(prec=330, rounding=ROUND_UP, traps=[])
"""More digits than any number between the least and `_FAR` has; what is beyond is infinite, or next to 0."""


@functools.total_ordering
class Quantity:
    """An amount and the form it is written in; compares with other quantities and with numbers.

    Args:
        amount: The number.
        form: "DecimalSI" (12M), "BinarySI" (12Mi) or "DecimalExponent" (12e6).
    """

    __slots__ = ("amount", "form")

    def __init__(self, amount: Decimal | int = 0, form: str = "DecimalSI") -> None:
        self.amount = Decimal(amount)
        self.form = form

    @classmethod
    def of(cls, value: str | int | float) -> Quantity:
        """What `value` says.

        As in Kubernetes, a number of Ki … Ei beyond ±(2⁶³ - 1) becomes that, and what is finer than 1n is rounded away
        from zero to it.

        Raises:
            ValueError: it is not a quantity.
        """
        text = str(value)
        if problem(text):
            raise ValueError(f"{text[:80]!r} is not a quantity such as 100m or 64Mi")
        number, suffix = _split(text)
        amount = _EXACT.create_decimal(number) if number.strip("+-.") else Decimal(0)
        if suffix in _BINARY:
            form, amount = "BinarySI", _EXACT.multiply(amount, Decimal(_BINARY[suffix]))
            bound = _MOST
        else:
            form = "DecimalSI" if suffix in _DECIMAL else "DecimalExponent"
            power = _DECIMAL[suffix] if suffix in _DECIMAL else _exponent(suffix)
            amount, bound = _EXACT.scaleb(amount, Decimal(power)), _FAR
        if abs(amount) >= bound:
            return cls(bound.copy_sign(amount), form)
        least = amount.quantize(_LEAST, context=_EXACT)
        return cls(amount if least == amount else least, form)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(_EXACT.add(self.amount, other.amount), self.form if self.amount else other.form)

    def __bool__(self) -> bool:
        return bool(self.amount)

    def __eq__(self, other: object) -> bool:
        return self.amount == (other.amount if isinstance(other, Quantity) else other)

    def __lt__(self, other: Quantity | Decimal | int) -> bool:
        return self.amount < (other.amount if isinstance(other, Quantity) else other)

    def __hash__(self) -> int:
        return hash(self.amount)

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def __str__(self) -> str:
        """As Kubernetes writes it: no fraction, and the largest suffix that leaves none: "1500m", "64Mi", "3"."""
        if not self.amount:
            return "0"
        if self.form == "BinarySI" and abs(self.amount) >= 1024 and self.amount == self.amount.to_integral_value():
            whole, suffix = int(self.amount), ""
            for name, factor in _BINARY.items():
                if int(self.amount) % factor == 0:
                    whole, suffix = int(self.amount) // factor, name
            return f"{whole}{suffix}"
        sign, digits, power = self.amount.as_tuple()
        assert isinstance(power, int)
        bare = "".join(map(str, digits)).lstrip("0")
        number = bare.rstrip("0")
        power += len(bare) - len(number)
        number, power = number + "0" * (power % 3), power - power % 3
        decimal = self.form != "DecimalExponent" and power in _SUFFIXES
        return f"{'-' * sign}{number}{_SUFFIXES[power] if decimal else f'e{power}' if power else ''}"


def problem(value: str | int | float) -> str:
    """Why `value` is not a quantity, in Kubernetes' words; "" where it is one."""
    text = str(value)
    found = _FORM.fullmatch(text) if text else None
    if found is None:
        return _MALFORMED
    suffix = found[2]
    if suffix in _DECIMAL or suffix in _BINARY:
        return ""
    found = _EXPONENT.fullmatch(suffix)
    # Go reads an exponent as 64 bits.
    return "" if found is not None and len(found[2]) < 19 else "unable to parse quantity's suffix"


def _split(text: str) -> tuple[str, str]:
    found = _FORM.fullmatch(text)
    assert found is not None
    return found[1], found[2]


def _exponent(suffix: str) -> int:
    found = _EXPONENT.fullmatch(suffix)
    assert found is not None
    # One of many digits says no more than one of six.
    return max(-999_999, min(999_999, int(f"{found[1]}0{found[2]}")))


def parse(value: str | int | float) -> Decimal:
    """The number behind a quantity, e.g. 0.1 for "100m"; its limits are those of `Quantity.of`.

    Raises:
        ValueError: it is not a quantity.
    """
    return Quantity.of(value).amount


def share(quantity: str | int | float, divisor: str | int | float = 1) -> int:
    """`quantity` in units of `divisor` ("0" stands for 1), rounded up, as resourceFieldRef gives it.

    Raises:
        ValueError: one of them is not a quantity.
    """
    return math.ceil(_EXACT.divide(parse(quantity), parse(divisor) or Decimal(1)))
