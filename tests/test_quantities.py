"""One reader of quantities, which agrees with the Kubernetes client and with Go's corner cases."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from labkit.ground import quantity as quantities

SUFFIXES = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
NUMBERS = st.from_regex(r"[+-]?([0-9]{1,12}(\.[0-9]{0,9})?|\.[0-9]{1,9})", fullmatch=True, alphabet="+-.0123456789")
EXPONENTS = st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 12))


@given(NUMBERS, st.sampled_from(SUFFIXES) | EXPONENTS)
def test_every_suffix_means_what_the_official_client_reads(number: str, suffix: str) -> None:
    assert quantities.problem(number + suffix) == ""
    with localcontext() as context:
        context.prec = 80
        meant = parse_quantity(number + suffix)
    seen = quantities.parse(number + suffix)
    # Beyond these Kubernetes has a rule of its own, which the client leaves out.
    least, most = Decimal("1e-9"), 2**63 - 1
    if abs(meant) > most:
        assert seen == Decimal(most).copy_sign(meant)
    else:
        assert abs(seen - meant) < least
        assert abs(seen) >= abs(meant)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("65536Ki", 64 * 2**20), ("64Mi", 64 * 2**20), ("1E", 10**18), ("1E3", 1000), ("1e-3", Decimal("0.001"))),
        *((3, 3), (0.1, Decimal("0.1")), ("-5", -5), ("+.5k", 500), ("9Ei", 2**63 - 1), ("-9Ei", 1 - 2**63)),
        *(("0.1n", Decimal("1e-9")), ("1e-999999999", Decimal("1e-9")), ("1e" + "9" * 5000, 2**63 - 1), ("0e99999", 0)),
        *(("1" * 100_000, 2**63 - 1), ("0." + "0" * 100_000 + "1", Decimal("1e-9"))),
    ],
)
def test_numbers(text: str | int | float, number: Decimal | int) -> None:
    assert quantities.parse(text) == number


@pytest.mark.parametrize(
    "text", ["", "Ki", "1ki", "1K", "1mi", "1e", "1e1.5", "1 Gi", "1Gi\n", "1_000", "٣", "nan", "0x1", "1..2"]
)
def test_what_is_none(text: str) -> None:
    assert quantities.problem(text)
    with pytest.raises(ValueError, match="is not a quantity"):
        quantities.parse(text)


@given(st.integers(0, 2**50), st.sampled_from(["1", "1m", "1k", "1Ki", "1Mi", "0"]))
def test_shares_are_rounded_up(number: int, divisor: str) -> None:
    unit = quantities.parse(divisor) or 1
    units = quantities.share(f"{number}", divisor)
    assert (units - 1) * unit < number <= units * unit or number == units == 0
    assert quantities.parse(quantities.written(Decimal(number))) == number


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *((0, "0"), (3, "3"), (1023, "1023"), (1025, "1025"), (1024, "1Ki"), (3 * 1024, "3Ki"), (-2048, "-2Ki")),
        *((64 * 2**20, "64Mi"), (5 * 2**30, "5Gi"), (7 * 2**40, "7Ti"), (2**50, "1024Ti"), (2**20 + 1024, "1025Ki")),
        *((Decimal("1.5"), "1500m"), (Decimal("0.001"), "1m"), (Decimal("0.0001"), "1m"), (Decimal("2.0"), "2")),
    ],
)
def test_a_number_is_written_in_its_largest_unit(number: int | Decimal, text: str) -> None:
    assert quantities.written(Decimal(number)) == text
