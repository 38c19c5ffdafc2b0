"""Names, labels, ports and selectors inside specs: what is well-formed, in the words of Kubernetes' validation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from meshbox.api.problems import Cause, forbidden, invalid, not_supported, required

__all__ = [
    "NON_NEGATIVE",
    "as_dict",
    "as_list",
    "at_most",
    "config_key",
    "dns1035_label",
    "dns1123_label",
    "dns1123_subdomain",
    "env_name",
    "int_or_percent",
    "label_selector",
    "label_value",
    "labels",
    "matches",
    "named",
    "non_negative",
    "one_of",
    "path_segment",
    "port_name",
    "port_number",
    "port_or_name",
    "qualified_name",
    "selector_text",
    "supported",
]

Rule = Callable[[str], list[str]]
"""Says what is wrong with a text; an empty list where nothing is."""

NON_NEGATIVE = "must be greater than or equal to 0"

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_SERVICE = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_QUALIFIED})?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_EDGES = "and must start and end with an alphanumeric character"


def _regex_words(words: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{words} (e.g. {shown}regex used for validation is '{pattern}')"


_LABEL_WORDS = _regex_words(
    f"a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', {_EDGES}",
    _LABEL,
    "my-name",
    "123-abc",
)
_SUBDOMAIN_WORDS = _regex_words(
    f"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', {_EDGES}",
    _SUBDOMAIN,
    "example.com",
)
_SERVICE_WORDS = _regex_words(
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character",
    _SERVICE,
    "my-name",
    "abc-123",
)
_QUALIFIED_WORDS = _regex_words(
    f"must consist of alphanumeric characters, '-', '_' or '.', {_EDGES}", _QUALIFIED, "MyName", "my.name", "123-abc"
)
_VALUE_WORDS = _regex_words(
    f"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', {_EDGES}",
    _VALUE,
    "MyValue",
    "my_value",
    "12345",
)
_CONFIG_KEY_WORDS = _regex_words(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    _CONFIG_KEY,
    "key.name",
    "KEY_NAME",
    "key-name",
)
_PERCENT_WORDS = _regex_words(
    "a valid percent string must be a numeric string followed by an ending '%'", "[0-9]+%", "1%", "93%"
)


def _longer_than(text: str, most: int) -> list[str]:
    return [f"must be no more than {most} characters"] if len(text) > most else []


def dns1123_label(text: str) -> list[str]:
    """What is wrong with `text` as a container's or volume's name."""
    said = _longer_than(text, 63)
    if not re.fullmatch(_LABEL, text):
        said.append("must not contain dots" if re.fullmatch(_SUBDOMAIN, text) else _LABEL_WORDS)
    return said


def dns1123_subdomain(text: str) -> list[str]:
    """What is wrong with `text` as most objects' name."""
    return _longer_than(text, 253) + ([] if re.fullmatch(_SUBDOMAIN, text) else [_SUBDOMAIN_WORDS])


def dns1035_label(text: str) -> list[str]:
    """What is wrong with `text` as a Service's name."""
    return _longer_than(text, 63) + ([] if re.fullmatch(_SERVICE, text) else [_SERVICE_WORDS])


def qualified_name(text: str) -> list[str]:
    """What is wrong with `text` as the key of a label."""
    parts = text.split("/")
    if len(parts) > 2:
        tail = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return [f"a qualified name {_QUALIFIED_WORDS}{tail}"]
    said = []
    if len(parts) == 2:
        if not parts[0]:
            said.append("prefix part must be non-empty")
        else:
            said += [f"prefix part {words}" for words in dns1123_subdomain(parts[0])]
    name = parts[-1]
    if not name:
        said.append("name part must be non-empty")
    elif len(name) > 63:
        said.append("name part must be no more than 63 characters")
    if not re.fullmatch(_QUALIFIED, name):
        said.append(f"name part {_QUALIFIED_WORDS}")
    return said


def label_value(text: str) -> list[str]:
    """What is wrong with `text` as the value of a label."""
    return _longer_than(text, 63) + ([] if re.fullmatch(_VALUE, text) else [_VALUE_WORDS])


def config_key(text: str) -> list[str]:
    """What is wrong with `text` as a key in a ConfigMap or Secret."""
    said = _longer_than(text, 253)
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
    said = _longer_than(text, 15)
    if not re.fullmatch("[-a-z0-9]+", text):
        said.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", text):
        said.append("must contain at least one letter (a-z)")
    if "--" in text:
        said.append("must not contain consecutive hyphens")
    if text.startswith("-") or text.endswith("-"):
        said.append("must not begin or end with a hyphen")
    return said


def as_dict(value: Any) -> dict[str, Any]:
    """`value` where it is an object; an empty one for null or absent."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """`value` where it is a list; an empty one for null or absent."""
    return value if isinstance(value, list) else []


def named(text: Any, path: str, rule: Rule, causes: list[Cause], *, needed: bool = True) -> None:
    """Check a name by `rule`; an empty one is "Required value" where `needed`."""
    if text:
        causes += [invalid(path, text, words) for words in rule(text)]
    elif needed:
        causes.append(required(path))


def port_number(value: Any, path: str, causes: list[Cause]) -> None:
    """A port is 1 to 65535."""
    if not 1 <= (value or 0) <= 65535:
        causes.append(invalid(path, value or 0, "must be between 1 and 65535, inclusive"))


def port_or_name(value: Any, path: str, causes: list[Cause]) -> None:
    """A port, or the name of a container's port."""
    if isinstance(value, str):
        causes += [invalid(path, value, words) for words in port_name(value)]
    else:
        port_number(value, path, causes)


def non_negative(obj: Mapping[str, Any], fields: Iterable[str], path: str, causes: list[Cause]) -> None:
    """None of `fields` is below 0."""
    for name in fields:
        if (obj.get(name) or 0) < 0:
            causes.append(invalid(f"{path}.{name}", obj[name], NON_NEGATIVE))


def supported(value: Any, path: str, allowed: Iterable[str], causes: list[Cause]) -> None:
    """`value`, where given, is one of `allowed`."""
    choices = list(allowed)
    if value and value not in choices:
        causes.append(not_supported(path, value, choices))


def at_most(text: str, most: int) -> list[str]:
    """What is wrong with the length of `text`."""
    return _longer_than(text, most)


def one_of(obj: Mapping[str, Any], choices: Iterable[str], path: str, what: str, causes: list[Cause]) -> str:
    """Exactly one of `choices` is set, as for handlers and volumes.

    Returns:
        The first that is set, "" where none is.
    """
    given = [name for name in choices if obj.get(name) is not None]
    causes += [forbidden(f"{path}.{name}", f"may not specify more than 1 {what} type") for name in given[1:]]
    if not given:
        causes.append(required(path, f"must specify a {what} type"))
    return given[0] if given else ""


def int_or_percent(value: Any, path: str, causes: list[Cause]) -> int:
    """A count, or a percentage; returned as a number."""
    if isinstance(value, str):
        if not re.fullmatch("[0-9]+%", value):
            causes.append(invalid(path, value, _PERCENT_WORDS))
            return 1
        return int(value[:-1])
    if (value or 0) < 0:
        causes.append(invalid(path, value, NON_NEGATIVE))
    return value or 0


def labels(given: Any, path: str, causes: list[Cause]) -> None:
    """Keys and values of labels."""
    for key, value in as_dict(given).items():
        causes += [invalid(path, key, words) for words in qualified_name(key)]
        causes += [invalid(path, value, words) for words in label_value(value or "")]


def label_selector(selector: Any, path: str, causes: list[Cause]) -> None:
    """`matchLabels` and `matchExpressions`."""
    labels(as_dict(selector).get("matchLabels"), f"{path}.matchLabels", causes)
    for index, one in enumerate(as_list(as_dict(selector).get("matchExpressions"))):
        where = f"{path}.matchExpressions[{index}]"
        expression = as_dict(one)
        operator, values = expression.get("operator"), as_list(expression.get("values"))
        if operator in ("In", "NotIn"):
            if not values:
                detail = "must be specified when `operator` is 'In' or 'NotIn'"
                causes.append(required(f"{where}.values", detail))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                causes.append(forbidden(f"{where}.values", detail))
        else:
            causes.append(invalid(f"{where}.operator", operator or "", "not a valid selector operator"))
        causes += [invalid(f"{where}.key", expression.get("key"), words) for words in _key(expression.get("key"))]


def _key(key: Any) -> list[str]:
    return qualified_name(key) if key else ["name part must be non-empty"]


def matches(selector: Any, given: Any) -> bool:
    """Whether labels fit a LabelSelector (no selector fits nothing)."""
    if not isinstance(selector, dict):
        return False
    have = as_dict(given)
    if any(have.get(key) != value for key, value in as_dict(selector.get("matchLabels")).items()):
        return False
    for one in as_list(selector.get("matchExpressions")):
        expression = as_dict(one)
        key, values = str(expression.get("key")), as_list(expression.get("values"))
        fits = {
            "In": have.get(key) in values,
            "NotIn": have.get(key) not in values,
            "Exists": key in have,
            "DoesNotExist": key not in have,
        }
        if not fits.get(str(expression.get("operator")), True):
            return False
    return True


def selector_text(given: Any) -> dict[str, Any]:
    """A LabelSelector or labels with sorted keys, as the server prints maps."""
    return {
        key: selector_text(value) if isinstance(value, dict) else value for key, value in sorted(as_dict(given).items())
    }
