# SPDX-License-Identifier: Apache-2.0
"""What the API takes a selector's text to choose is what its requirements say, one by one."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from labkit.ground.labels import parse
from meshbox.api.selectors import label_selector

VALUES = (None, "", "x", "y")
LABELS: list[dict[str, Any]] = [
    {key: value for key, value in (("a", one), ("b", other)) if value is not None}
    for one, other in product(VALUES, VALUES)
]


@pytest.mark.parametrize(
    "text", ["a=x", "a=", "a==x,b=y", "a=x,a=y", "a=x,a=x", "a in (x)", "a in (x,y),b=x", "a=x,!b", "a=x,b!=y", "b"]
)
def test_a_text_chooses_what_its_requirements_do(text: str) -> None:
    match = label_selector(text)
    assert match is not None
    seen = [match({"metadata": {"labels": labels}}) for labels in LABELS]
    assert seen == [all(one.fits(labels) for one in parse(text)) for labels in LABELS]


def test_an_object_without_labels_has_none() -> None:
    match = label_selector("a=x")
    assert match is not None
    assert not match({"metadata": {}})
    assert not match({"metadata": {"labels": None}})
