# SPDX-License-Identifier: Apache-2.0
"""What no table tells of webhooks' configurations and admission policies."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from labkit.ground.names import dns1035_label, dns1123_subdomain
from meshbox.api.builtin.rules import Context, call
from meshbox.api.builtin.well_formed import as_dict
from meshbox.api.problems import Cause, invalid, required
from meshbox.contracts import Obj

__all__: list[str] = []

_FORM = "; desired format: https://host[/path]"


@call("webhook_client")
def webhook_client(config: Obj, path: str, causes: list[Cause], _context: Context) -> None:
    """Check who is asked: a URL or a Service (a CRD's conversion asks in the same words)."""
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        causes.append(required(path, "exactly one of url or service is required"))
    elif service is not None:
        _webhook_service(as_dict(service), f"{path}.service", causes)
    else:
        _webhook_url(str(url), f"{path}.url", causes)


def _webhook_url(url: str, path: str, causes: list[Cause]) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        causes.append(required(path, f"url must be a valid URL{_FORM}"))
        return
    if parts.scheme != "https":
        causes.append(invalid(path, parts.scheme, f"'https' is the only allowed URL scheme{_FORM}"))
    if not parts.netloc:
        causes.append(invalid(path, "", f"host must be specified{_FORM}"))
    for value, words in (
        (parts.username, "user information is not permitted in the URL"),
        (parts.fragment, "fragments are not permitted in the URL"),
        (parts.query, "query parameters are not permitted in the URL"),
    ):
        if value:
            causes.append(invalid(path, value, words))


def _webhook_service(service: Obj, path: str, causes: list[Cause]) -> None:
    # The server takes the one for the other here.
    for field, told in (("name", "namespace"), ("namespace", "name")):
        if not service.get(field):
            causes.append(required(f"{path}.{told}"))
    port = service.get("port")
    if port is not None and not 1 <= port <= 65535:
        causes.append(invalid(f"{path}.port", port, "port is not valid: must be between 1 and 65535, inclusive"))
    text = service.get("path")
    if not text or text == "/":
        return
    where = f"{path}.path"
    if not text.startswith("/"):
        causes.append(invalid(where, text, "must start with a '/'"))
    for index, step in enumerate(text[1:].removesuffix("/").split("/")):
        if not step:
            causes.append(invalid(where, text, f"segment[{index}] may not be empty"))
        else:
            causes += [invalid(where, text, f"segment[{index}]: {words}") for words in dns1123_subdomain(step)]


@call("wildcard")
def _wildcard(values: list[Any], path: str, causes: list[Cause], _context: Context) -> None:
    if len(values) < 2:
        return
    if path.endswith(".resources"):
        below = [str(one).split("/", 1) for one in values]
        for index, (one, parts) in enumerate(zip(values, below, strict=True)):
            before = below[:index] if len(parts) > 1 else []
            said = [f"{parts[0]}/*"] if [parts[0], "*"] in before else []
            said += [f"*/{parts[1]}"] if before and ["*", parts[1]] in before else []
            detail = "if '{}' is present, must not specify {}"
            causes += [invalid(f"{path}[{index}]", one, detail.format(rule, one)) for rule in said]
        other = "if '{}' is present, must not specify other resources{}"
        if "*/*" in values:
            causes.append(invalid(path, values, other.format("*/*", "")))
        if "*" in values and len(below[-1]) == 1 and values[-1] != "*":
            causes.append(invalid(path, values, other.format("*", " without subresources")))
    elif "*" in values:
        what = {"operations": "operations", "apiGroups": "API groups", "apiVersions": "API versions"}[
            path.rpartition(".")[2]
        ]
        causes.append(invalid(path, values, f"if '*' is present, must not specify other {what}"))


@call("group_version")
def _group_version(text: str, path: str, causes: list[Cause], _context: Context) -> None:
    group, _, version = text.rpartition("/")
    if text.count("/") > 1:
        causes.append(invalid(path, text, f"unexpected GroupVersion string: {text}"))
        return
    causes += [invalid(path, group, words) for words in (dns1123_subdomain(group) if group else ())]
    causes += [invalid(path, version, words) for words in dns1035_label(version)]


@call("actions")
def _actions(actions: list[str], path: str, causes: list[Cause], _context: Context) -> None:
    if {"Deny", "Warn"} <= set(actions):
        why = "repeating the same validation failure information in the API response and headers serves no purpose"
        causes.append(invalid(path, actions, f"must not contain both Deny and Warn ({why})"))
