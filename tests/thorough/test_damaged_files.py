# SPDX-License-Identifier: Apache-2.0
"""Every small file of a sandbox with every damage, of both releases: it works, or says in a sentence why not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sandbox.damage import DAMAGES, after_damage, files_of


@pytest.mark.parametrize("release", ["1.2.2", "1.30.3"])
def test_all_files_with_all_damages(start_sandbox, figure: Callable[[str, object, str], None], release: str) -> None:
    sandbox = start_sandbox(release, name="damaged")
    sandbox.kubectl("create", "configmap", "note", "--from-literal=a=1")
    said = {}
    for name in files_of(sandbox):
        for how in DAMAGES:
            said[name, how] = after_damage(sandbox, name, how)
    works = sum(not one for one in said.values())
    figure(f"damaged files of state, Istio {release}", f"{works} of {len(said)} work", f"{len(said)}, none silent")
    assert {case: one for case, one in said.items() if one} == {}
