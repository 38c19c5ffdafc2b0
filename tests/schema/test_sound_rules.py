# SPDX-License-Identifier: Apache-2.0
"""The rules that are known to compile: the table is what compiles today, and nothing else is in it."""

from __future__ import annotations

import subprocess
import sys

from labkit import istio
from meshbox.api.cel.sound import known
from meshbox.api.compiled.schemas import schema_problems
from meshbox.api.problems import Cause
from tests.conftest import REPOSITORY
from tools.generate_sound_rules import TARGET, table


def test_the_table_is_what_compiles() -> None:
    assert TARGET.read_text(encoding="ascii") == table()


def test_other_words_and_other_fields_are_another_rule() -> None:
    rule = "(has(self.labelSelector) ? 1 : 0) <= 1"
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "x-kubernetes-validations": [{"rule": rule}]}
    causes: list[Cause] = []
    schema_problems(schema, "at", causes, with_status=False)
    assert not known(rule, frozenset({"a"}))
    assert ["undefined field 'labelSelector'" in one["message"] for one in causes] == [True]


def test_a_release_is_installed_without_reading_cel() -> None:
    (base,) = istio.release("1.30.3").crd_files
    program = f"""
import sys, yaml
from meshbox.api.compiled.schemas import schema_problems
found = []
for crd in yaml.load_all(open({str(base)!r}), yaml.CSafeLoader):
    for version in crd["spec"].get("versions", []) if crd["kind"] == "CustomResourceDefinition" else []:
        schema_problems(version["schema"]["openAPIV3Schema"], "at", found, with_status=True)
print(found, "celpy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[] False\n", done.stderr
