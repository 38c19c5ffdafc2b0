# SPDX-License-Identifier: Apache-2.0
"""Names, labels' keys and values, keys of ConfigMaps, names of ports: what is wrong with them, in Kubernetes' words."""

from __future__ import annotations

import functools
import ipaddress
import re
from typing import Any

__all__ = [
    "at_most",
    "config_key",
    "dns1035_label",
    "dns1123_label",
    "dns1123_subdomain",
    "env_name",
    "is_ip",
    "label_value",
    "path_segment",
    "port_name",
    "qualified_name",
    "regex_words",
]

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_SERVICE = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_QUALIFIED})?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_EDGES = "and must start and end with an alphanumeric character"


@functools.lru_cache(maxsize=4096)
def is_ip(text: Any) -> bool:
    """Whether this is the text of an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    # It makes one of a number, too.
    return isinstance(text, str)


def regex_words(words: str, pattern: str, *examples: str) -> str:
    """Words with the examples and the pattern that Kubernetes puts behind them."""
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{words} (e.g. {shown}regex used for validation is '{pattern}')"


_LABEL_WORDS = regex_words(
    f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', {_EDGES}",
    _LABEL,
    "my-name",
    "123-abc",
)
_SUBDOMAIN_WORDS = regex_words(
    f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', {_EDGES}",
    _SUBDOMAIN,
    "example.com",
)
_SERVICE_WORDS = regex_words(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character",
    _SERVICE,
    "my-name",
    "abc-123",
)
_QUALIFIED_WORDS = regex_words(
    f"must consist of alphanumeric characters, '-', '_' or '.', {_EDGES}", _QUALIFIED, "MyName", "my.name", "123-abc"
)
_VALUE_WORDS = regex_words(
    f"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', {_EDGES}",
    _VALUE,
    "MyValue",
    "my_value",
    "12345",
)
_CONFIG_KEY_WORDS = regex_words(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY,
    "key.name",
    "KEY_NAME",
    "key-name",
)


def at_most(text: str, most: int, unit: str = "characters") -> list[str]:
    """What is wrong with the length of `text`."""
    return [f"must be no more than {most} {unit}"] if len(text.encode(errors="replace")) > most else []


def dns1123_label(text: str) -> list[str]:
    """What is wrong with `text` as a name without dots, such as a namespace's or a container's."""
    said = at_most(text, 63)
    if not re.fullmatch(_LABEL, text):
        said.append("must not contain dots" if re.fullmatch(_SUBDOMAIN, text) else _LABEL_WORDS)
    return said


def dns1123_subdomain(text: str, unit: str = "characters") -> list[str]:
    """What is wrong with `text` as most objects' name; too long a one is told in `unit`s."""
    return at_most(text, 253, unit) + ([] if re.fullmatch(_SUBDOMAIN, text) else [_SUBDOMAIN_WORDS])


def dns1035_label(text: str) -> list[str]:
    """What is wrong with `text` as a Service's name."""
    return at_most(text, 63) + ([] if re.fullmatch(_SERVICE, text) else [_SERVICE_WORDS])


def qualified_name(text: str) -> list[str]:
    """What is wrong with `text` as the key of a label or an annotation, or as the name of a resource."""
    parts = text.split("/")
    if len(parts) > 2:
        tail = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return [f"a valid label key {_QUALIFIED_WORDS}{tail}"]
    said = []
    if len(parts) == 2:
        if not parts[0]:
            said.append("prefix part must be non-empty")
        else:
            said += [f"prefix part {words}" for words in dns1123_subdomain(parts[0], "bytes")]
    name = parts[-1]
    if not name:
        said.append("name part must be non-empty")
    said += [f"name part {words}" for words in at_most(name, 63, "bytes")]
    if not re.fullmatch(_QUALIFIED, name):
        said.append(f"name part {_QUALIFIED_WORDS}")
    return said


def label_value(text: str) -> list[str]:
    """What is wrong with `text` as the value of a label."""
    return at_most(text, 63, "bytes") + ([] if re.fullmatch(_VALUE, text) else [_VALUE_WORDS])


def config_key(text: str) -> list[str]:
    """What is wrong with `text` as a key in a ConfigMap or Secret."""
    said = at_most(text, 253)
    if not re.fullmatch(_CONFIG_KEY, text):
        said.append(_CONFIG_KEY_WORDS)
    if text in (".", ".."):
        said.append(f"must not be '{text}'")
    elif text.startswith(".."):
        said.append("must not start with '..'")
    return said


def env_name(text: str) -> list[str]:
    """What is wrong with `text` as the name of an environment variable."""
    if all(" " <= sign <= "~" and sign != "=" for sign in text):
        return []
    return ["a valid environment variable name must consist only of printable ASCII characters other than '='"]


def path_segment(text: str) -> list[str]:
    """What is wrong with `text` as the name of a role."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{sign}'" for sign in "/%" if sign in text]


def port_name(text: str) -> list[str]:
    """What is wrong with `text` as the name of a container's port."""
    said = at_most(text, 15)
    if not re.fullmatch("[-a-z0-9]+", text):
        said.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", text):
        said.append("must contain at least one letter (a-z)")
    if "--" in text:
        said.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        said.append("must not begin or end with a hyphen")
    return said
