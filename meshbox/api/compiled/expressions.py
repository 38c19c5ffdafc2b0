# SPDX-License-Identifier: Apache-2.0
"""CEL expressions of webhooks and admission policies."""

from __future__ import annotations

from labkit.ground.names import qualified_name
from meshbox.api.builtin.rules import Context, call
from meshbox.api.builtin.well_formed import as_dict
from meshbox.api.cel.compiling import POLICY_NAMES, compile_error, constant_type
from meshbox.api.problems import Cause, invalid, required
from meshbox.contracts import Obj

__all__: list[str] = []


@call("expression")
def _expression(text: str, path: str, causes: list[Cause], context: Context) -> None:
    policy = context.whole.get("kind") == "ValidatingAdmissionPolicy"
    names = POLICY_NAMES | ({"params", "variables", "namespaceObject"} if policy else set())
    if said := compile_error(text, names):
        causes.append(invalid(path, text, f"compilation failed: {said}"))


@call("condition")
def _condition(text: str, path: str, causes: list[Cause], context: Context) -> None:
    before = len(causes)
    _expression(text, path, causes, context)
    kind = constant_type(text) if len(causes) == before else ""
    if kind not in ("", "bool"):
        causes.append(invalid(path, text, f"must evaluate to bool but got {kind}"))


@call("audit_annotation")
def _audit_annotation(one: Obj, path: str, causes: list[Cause], context: Context) -> None:
    name, key = as_dict(context.whole.get("metadata")).get("name"), one.get("key") or ""
    whole = f"{name}/{key}"
    if not name:
        causes.append(invalid(f"{path}.key", key, "requires metadata.name be non-empty"))
    else:
        causes += [invalid(f"{path}.key", whole, words) for words in qualified_name(whole)]
    text = one.get("valueExpression") or ""
    if not text.strip():
        causes.append(required(f"{path}.valueExpression", "valueExpression is not specified"))
    else:
        _expression(text, f"{path}.valueExpression", causes, context)
