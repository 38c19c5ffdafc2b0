# SPDX-License-Identifier: Apache-2.0
"""One reader of quantities, which agrees with kubectl, with the Kubernetes client and with Go's corner cases."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from labkit.ground import quantity as quantities
from labkit.ground.quantity import Quantity

from .kubectl import created

SUFFIXES = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]
NUMBERS = st.from_regex(r"[+-]?([0-9]{1,12}(\.[0-9]{0,9})?|\.[0-9]{1,9})", fullmatch=True, alphabet="+-.0123456789")
EXPONENTS = st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), st.integers(0, 12))
WRITTEN = st.builds("{}{}".format, NUMBERS, st.sampled_from(SUFFIXES) | EXPONENTS)


@settings(max_examples=15)
@given(st.lists(WRITTEN, min_size=100, max_size=100))
def test_kubectl_reads_and_writes_the_same(texts: list[str]) -> None:
    """Kubernetes hands some texts back as they came, such as "+5" and "1.500"; all others in one form."""
    hard = ",".join(f"q{index}={text}" for index, text in enumerate(texts))
    seen = created("quota", "q", f"--hard={hard}")["spec"]["hard"]
    for index, text in enumerate(texts):
        theirs = seen[f"q{index}"]
        ours = Quantity.of(text)
        # Of more than 999E, which has no suffix, the kubectl of today loses the exponent.
        if abs(ours.amount) < Decimal("1e21"):
            assert quantities.parse(theirs) == ours.amount, text
            assert theirs in (str(ours), text), text


@given(NUMBERS, st.sampled_from(SUFFIXES) | EXPONENTS)
def test_every_suffix_means_what_the_official_client_reads(number: str, suffix: str) -> None:
    assert quantities.problem(number + suffix) == ""
    with localcontext() as context:
        context.prec = 80
        meant = parse_quantity(number + suffix)
    seen = quantities.parse(number + suffix)
    # Beyond these Kubernetes has a rule of its own, which the client leaves out.
    least, most = Decimal("1e-9"), 2**63 - 1
    if suffix.endswith("i") and abs(meant) > most:
        assert seen == Decimal(most).copy_sign(meant)
    else:
        assert abs(seen - meant) < least
        assert abs(seen) >= abs(meant)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("65536Ki", 64 * 2**20), ("64Mi", 64 * 2**20), ("1E", 10**18), ("1E3", 1000), ("1e-3", Decimal("0.001"))),
        *((3, 3), (0.1, Decimal("0.1")), ("-5", -5), ("+.5k", 500), ("9Ei", 2**63 - 1), ("-9Ei", 1 - 2**63)),
        *(("0.1n", Decimal("1e-9")), ("1e-999999999", Decimal("1e-9")), ("1e" + "0" * 5000, 1), ("0e99999", 0)),
        *(
            ("100E", 10**20),
            ("-1e30", -(10**30)),
            ("1.2345", Decimal("1.2345")),
            ("0.1234567891", Decimal("0.123456790")),
        ),
        *(("0" * 5000 + "1", 1), ("0." + "0" * 100_000 + "1", Decimal("1e-9")), ("0.00000000001Ki", Decimal("11e-9"))),
        *(("1" * 100_000, 10**300), ("1e999999999", 10**300)),
        # Go reads what has no digit as 0.
        *(("Ki", 0), (".", 0), ("+", 0), ("-Ki", 0), (".m", 0)),
    ],
)
def test_numbers(text: str | int | float, number: Decimal | int) -> None:
    assert quantities.parse(text) == number


@pytest.mark.parametrize(
    ("text", "written"),
    [
        *(
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1500000000", "1500M"),
            ("-0.5", "-500m"),
        ),
        *(
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("1.5Ki", "1536"),
            ("0.5Ki", "512"),
            ("1.1Ki", "1126400m"),
            ("0Ki", "0"),
            ("1Ki", "1Ki"),
            ("-1Ki", "-1Ki"),
        ),
        *(("1e3", "1e3"), ("1E2", "100"), ("12e1", "120"), ("1e19", "10e18"), ("1e400", "1e300"), ("1000E", "1e21")),
        *(("8Ei", "9223372036854775807"), ("7.5Ei", "7680Pi"), ("-2Gi", "-2Gi"), ("0.1234567891", "123456790n")),
    ],
)
def test_one_form_in_which_it_is_written(text: str, written: str) -> None:
    assert str(Quantity.of(text)) == written


@pytest.mark.parametrize(
    ("text", "form"), [("12M", "DecimalSI"), ("12", "DecimalSI"), ("12Mi", "BinarySI"), ("12e6", "DecimalExponent")]
)
def test_a_quantity_shows_its_form(text: str, form: str) -> None:
    assert Quantity.of(text).form == form
    assert repr(Quantity.of(text)) == f"Quantity('{Quantity.of(text)}')"
    assert bool(Quantity.of(text)) is True
    assert bool(Quantity.of("0" + text[2:])) is False


def test_a_sum_has_the_form_of_what_came_first() -> None:
    assert str(sum(map(Quantity.of, ["512Mi", "512M"]), Quantity())) == "1024288Ki"
    assert str(sum(map(Quantity.of, ["1Gi", "1.5Gi"]), Quantity())) == "2560Mi"
    assert str(sum(map(Quantity.of, ["0", "500m", "0.5"]), Quantity())) == "1"
    assert str(sum(map(Quantity.of, ["9E", "9E", "1n"]), Quantity())) == "18000000000000000000000000001n"


def test_quantities_compare_by_amount() -> None:
    assert Quantity.of("1Ki") == Quantity.of("1024") == 1024
    assert Quantity.of("1G") < Quantity.of("1Gi") <= 2**30
    assert max(Quantity.of("2"), Quantity.of("1500m")) == 2


@pytest.mark.parametrize(
    "text",
    [
        *("", "1ki", "1K", "1mi", "1e", "1e1.5", "1 Gi", "1Gi\n", "1_000", "٣", "nan", "0x1", "1..2", "--1", "Ki1"),
        *("1e" + "9" * 19, "1e-" + "9" * 5000),
    ],
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
    assert quantities.parse(str(Quantity(number))) == number
