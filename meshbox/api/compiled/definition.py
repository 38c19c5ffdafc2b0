# SPDX-License-Identifier: Apache-2.0
"""Validation of CustomResourceDefinitions, all but their schemas.

The server tells of what all versions have in common as if it stood in the spec itself, where v1beta1 had it: paths such
as `spec.subresources` and `spec.version`.
"""

from __future__ import annotations

import re
from typing import Any

from labkit.ground.names import dns1035_label, dns1123_subdomain
from meshbox.api.builtin.admission import webhook_client
from meshbox.api.builtin.rules import Context, call
from meshbox.api.builtin.vocabulary import VOCABULARY
from meshbox.api.builtin.well_formed import as_dict, as_list, named, supported
from meshbox.api.compiled.schemas import schema_problems
from meshbox.api.problems import Cause, invalid, required
from meshbox.api.refusals import quoted
from meshbox.contracts import Obj

__all__ = ["approval", "keeps_unknown"]

_SIMPLE_PATH = re.compile(r"(\.[A-Za-z_][\w-]*|\[['\"][^'\"]+['\"]\]|\[\d+\])+")
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")


@call("definition")
def _definition(obj: Obj, _path: str, causes: list[Cause], context: Context) -> None:
    spec, name = as_dict(obj.get("spec")), as_dict(obj.get("metadata")).get("name")
    names, group = as_dict(spec.get("names")), spec.get("group") or ""
    if context.new and name and name != f"{names.get('plural') or ''}.{group}":
        causes.append(invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    named(group, "spec.group", dns1123_subdomain, causes)
    if group and "." not in group and not dns1123_subdomain(group):
        causes.append(invalid("spec.group", group, "should be a domain with at least one dot"))
    if not spec.get("scope"):
        causes.append(required("spec.scope"))
    supported(spec.get("scope"), "spec.scope", ("Cluster", "Namespaced"), causes)
    listed = [as_dict(one) for one in as_list(spec.get("versions"))]
    # In v1beta1, schemas need not be structural, nor be there.
    old = "beta" in context.version
    _versions(listed, spec, causes, old=old)
    _names(names, causes)
    _parts(listed, causes, old=old)
    if not any(one.get("storage") for one in listed):
        causes.append(invalid("status.storedVersions", None, "must have at least one stored version"))
    _conversion(spec.get("conversion"), causes, context)
    if spec.get("preserveUnknownFields") is True and context.new and not old:
        causes.append(keeps_unknown())
    status, _, words = approval(obj)
    if status == "False" and not words.startswith("not approved") and context.new and not old:
        given = (as_dict(obj.get("metadata")).get("annotations") or {}).get(_APPROVED)
        path = f"metadata.annotations[{_APPROVED}]"
        causes.append(invalid(path, given, words) if given else required(path, words))


def keeps_unknown() -> Cause:
    """What is said of a CRD that keeps all fields, as those of v1beta1 could."""
    instead = "set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
    return invalid("spec.preserveUnknownFields", True, f"cannot set to true, {instead}")


_APPROVED = "api-approved.kubernetes.io"
_PROTECTED = ("k8s.io", "kubernetes.io")


def approval(crd: Obj) -> tuple[str, str, str]:
    """Whether a group that belongs to Kubernetes' community is approved: status, reason and message of a condition.

    Three empty texts for a group that does not.
    """
    group = str(as_dict(crd.get("spec")).get("group") or "")
    if not any(group == one or group.endswith(f".{one}") for one in _PROTECTED):
        return "", "", ""
    given = str((as_dict(crd.get("metadata")).get("annotations") or {}).get(_APPROVED) or "")
    if given.startswith("unapproved"):
        return "False", "UnapprovedAnnotation", f"not approved: {quoted(given)}"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s]", given):
        return "True", "ApprovedAnnotation", f"approved in {given}"
    either = ' with either a URL or a reason starting with "unapproved"' if given else ""
    more = "see https://github.com/kubernetes/enhancements/pull/1111"
    words = f"protected groups must have approval annotation {quoted(_APPROVED)}{either}, {more}"
    return "False", "InvalidAnnotation" if given else "MissingAnnotation", words


def _versions(listed: list[Obj], spec: Obj, causes: list[Cause], *, old: bool) -> None:
    for index, one in enumerate(listed):
        if as_dict(one.get("schema")).get("openAPIV3Schema") is None and not old:
            causes.append(required(f"spec.versions[{index}].schema.openAPIV3Schema"))
    for index, one in enumerate(listed):
        path, name = f"spec.versions[{index}]", one.get("name") or ""
        causes += [invalid(f"{path}.name", name, words) for words in dns1035_label(name)]
        warning = one.get("deprecationWarning")
        if warning is None:
            continue
        if not one.get("deprecated"):
            causes.append(invalid(f"{path}.deprecationWarning", warning, "can only be set for deprecated versions"))
        if not warning:
            causes.append(invalid(f"{path}.deprecationWarning", warning, "must not be an empty string"))
        elif len(warning) > 256:
            causes.append(invalid(f"{path}.deprecationWarning", warning, "must be <= 256 characters long"))
    shown = [_shown_version(one) for one in listed] if spec.get("versions") is not None else None
    if len({one.get("name") for one in listed}) < len(listed):
        causes.append(invalid("spec.versions", shown, "must contain unique version names"))
    if sum(1 for one in listed if one.get("storage")) != 1:
        causes.append(invalid("spec.versions", shown, "must have exactly one version marked as storage version"))
    if listed and listed[0].get("name"):
        causes += [invalid("spec.version", listed[0]["name"], words) for words in dns1035_label(listed[0]["name"])]


def _shown_version(one: Obj) -> Obj:
    """A version as the server prints it: an internal type without JSON names, what all have in common left out."""
    told = {"Name": one.get("name") or ""}
    told |= {name: one.get(name.lower()) or False for name in ("Served", "Storage", "Deprecated")}
    told |= {"DeprecationWarning": one.get("deprecationWarning"), "Schema": None, "Subresources": None}
    return {**told, "AdditionalPrinterColumns": None, "SelectableFields": None}


def _names(names: Obj, causes: list[Cause]) -> None:
    causes += [
        required(f"spec.names.{field}") for field in ("plural", "singular", "kind", "listKind") if not names.get(field)
    ]
    for field, word in (("plural", "dns1035"), ("singular", "dns1035"), ("kind", "kind"), ("listKind", "kind")):
        if names.get(field):
            causes += VOCABULARY[word](names[field], f"spec.names.{field}", ())
    for field in ("shortNames", "categories"):
        for index, one in enumerate(as_list(names.get(field))):
            causes += VOCABULARY["dns1035"](one, f"spec.names.{field}[{index}]", ())
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        causes.append(invalid("spec.names.listKind", names["listKind"], "kind and listKind may not be the same"))


def _parts(listed: list[Obj], causes: list[Cause], *, old: bool) -> None:
    """Schemas, subresources and columns: each version's, or once what all have."""
    for field, check in (("schema", _schema), ("subresources", _subresources), ("additionalPrinterColumns", _columns)):
        alike = all(one.get(field) == listed[0].get(field) for one in listed)
        for index, one in enumerate(listed[:1] if alike else listed):
            common = "spec.validation" if field == "schema" else f"spec.{field}"
            path = common if alike else f"spec.versions[{index}].{field}"
            if one.get(field) is not None and not (old and field == "schema"):
                check(one[field], path, one, causes)


def _schema(value: Any, path: str, version: Obj, causes: list[Cause]) -> None:
    schema = as_dict(value).get("openAPIV3Schema")
    if isinstance(schema, dict):
        with_status = as_dict(version.get("subresources")).get("status") is not None
        schema_problems(schema, f"{path}.openAPIV3Schema", causes, with_status=with_status)


def _subresources(value: Any, path: str, _version: Obj, causes: list[Cause]) -> None:
    scale = as_dict(value).get("scale")
    if scale is None:
        return
    for field, roots in (("specReplicasPath", (".spec",)), ("statusReplicasPath", (".status",))):
        text = scale.get(field) or ""
        if not text:
            causes.append(required(f"{path}.scale.{field}"))
        else:
            _simple_path(text, f"{path}.scale.{field}", causes, roots)
    text = scale.get("labelSelectorPath")
    if text:
        _simple_path(text, f"{path}.scale.labelSelectorPath", causes, (".spec", ".status"))


def _simple_path(text: str, path: str, causes: list[Cause], roots: tuple[str, ...] = ()) -> None:
    if not text.startswith("."):
        causes.append(invalid(path, text, "must be a simple json path starting with ."))
    elif not _SIMPLE_PATH.fullmatch(text):
        causes.append(invalid(path, text, "must be a simple json path"))
    elif roots and not text.startswith(tuple(f"{root}." for root in roots)):
        causes.append(invalid(path, text, f"should be a json path under {' or '.join(roots)}"))


def _columns(value: Any, path: str, _version: Obj, causes: list[Cause]) -> None:
    for index, one in enumerate(as_list(value)):
        column, where = as_dict(one), f"{path}[{index}]"
        if not column.get("name"):
            causes.append(required(f"{where}.name"))
        kind, detail = column.get("type") or "", f"must be one of {','.join(_COLUMN_TYPES)}"
        if not kind:
            causes.append(required(f"{where}.type", detail))
        elif kind not in _COLUMN_TYPES:
            causes.append(invalid(f"{where}.type", kind, detail))
        text = column.get("jsonPath") or ""
        if not text:
            causes.append(required(f"{where}.JSONPath"))
        elif not text.startswith((".", "{")):
            causes.append(invalid(f"{where}.JSONPath", text, "must be a simple json path starting with ."))


def _conversion(conversion: Any, causes: list[Cause], context: Context) -> None:
    if conversion is None:
        return
    strategy, path = conversion.get("strategy"), "spec.conversion"
    if not strategy:
        causes.append(required(f"{path}.strategy"))
    supported(strategy, f"{path}.strategy", ("None", "Webhook"), causes)
    if strategy == "Webhook":
        webhook = as_dict(conversion.get("webhook"))
        if webhook.get("clientConfig") is None:
            causes.append(required(f"{path}.webhookClientConfig", "required when strategy is set to Webhook"))
        else:
            webhook_client(as_dict(webhook["clientConfig"]), f"{path}.webhookClientConfig", causes, context)
        if not as_list(webhook.get("conversionReviewVersions")):
            causes.append(required(f"{path}.conversionReviewVersions"))
