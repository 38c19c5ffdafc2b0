# SPDX-License-Identifier: Apache-2.0
"""CEL expressions of webhooks and admission policies."""

from __future__ import annotations

import re

from labkit.ground.names import qualified_name
from meshbox.api.builtin.rules import Context, call
from meshbox.api.builtin.well_formed import as_dict, as_list
from meshbox.api.cel.compiling import POLICY_NAMES, compile_error, type_of
from meshbox.api.problems import Cause, invalid, required
from meshbox.contracts import Obj

__all__: list[str] = []


_VARIABLE = re.compile(r"spec\.variables\[(\d+)\]")


def _compiled(text: str, path: str, causes: list[Cause], context: Context, *types: str) -> None:
    """Whether an expression compiles where it stands, and is of one of some types."""
    names, fields = POLICY_NAMES, None
    if context.whole.get("kind") == "ValidatingAdmissionPolicy":
        spec = as_dict(context.whole.get("spec"))
        given = [str(as_dict(one).get("name") or "") for one in as_list(spec.get("variables"))]
        here = _VARIABLE.match(path)
        names |= {"namespaceObject"}
        names |= {"params"} if spec.get("paramKind") is not None else set()
        if given and ".matchConditions[" not in path:
            names |= {"variables"}
            # A variable knows those before it only.
            fields = frozenset(given[: int(here[1])] if here else given)
    if said := compile_error(text, names, fields, owner="variables"):
        causes.append(invalid(path, text, f"compilation failed: {said}"))
    elif types and (kind := type_of(text)) not in ("", *types):
        wanted = types[0] if len(types) == 1 else f"one of [{' '.join(types)}]"
        causes.append(invalid(path, text, f"must evaluate to {wanted} but got {kind}"))


@call("expression")
def _expression(text: str, path: str, causes: list[Cause], context: Context) -> None:
    _compiled(text, path, causes, context)


@call("condition")
def _condition(text: str, path: str, causes: list[Cause], context: Context) -> None:
    if text.strip():
        _compiled(text, path, causes, context, "bool")
    else:
        causes.append(required(path, "expression is not specified"))


@call("message")
def _message(text: str, path: str, causes: list[Cause], context: Context) -> None:
    if text.strip():
        _compiled(text, path, causes, context, "string")
    else:
        causes.append(invalid(path, text, "must be non-empty if specified"))


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
        _compiled(text, f"{path}.valueExpression", causes, context, "string", "null_type")
