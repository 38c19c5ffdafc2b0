# SPDX-License-Identifier: Apache-2.0
"""Reads Prometheus' text format, for tests."""

from __future__ import annotations

import re

_SERIES = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Page:
    """A page of metrics."""

    def __init__(self, text: str) -> None:
        self.series: list[tuple[str, dict[str, str], float]] = []
        for line in text.splitlines():
            if line.startswith("#"):
                continue
            found = _SERIES.match(line)
            assert found, line
            self.series.append((found[1], dict(_LABEL.findall(found[2] or "")), float(found[3])))

    @property
    def names(self) -> set[str]:
        return {name for name, _, _ in self.series}

    def all(self, name: str, **labels: str) -> list[float]:
        """The values of all series of this name with (at least) these labels; "" for a label that is not there."""
        return [
            value
            for found, own, value in self.series
            if found == name and all(own.get(key, "") == text for key, text in labels.items())
        ]

    def one(self, name: str, **labels: str) -> float:
        """The value of the one series of this name with these labels."""
        (value,) = self.all(name, **labels)
        return value
