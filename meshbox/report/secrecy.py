# SPDX-License-Identifier: Apache-2.0
"""What of a sandbox nobody else may read, and how it is taken out of texts and objects.

Two nets, since neither is enough: what is known to be secret (values of Secrets, tokens, keys) is taken out wherever it
stands and however it is written; and what looks like a secret is taken out though nobody knows it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

__all__ = ["MARK", "Secrecy"]

MARK = "[removed]"
"""Stands where a secret was."""

_SHORTEST = 4
"""Characters of a secret that is looked for everywhere; shorter ones would take half of each word with them."""

_WORD_UP_TO = 12
"""Characters below which a secret of letters and digits only is looked for as a whole word."""

_COMMON = frozenset({"true", "false", "null", "none", "default", "istio", "localhost", "kubernetes", "cluster.local"})
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_WORD = r"(?:passw(?:or)?d|passphrase|pwd|token|secret|api[_-]?key|access[_-]?key|private[_-]?key|credential|cookie)"
_NAME = re.compile(rf"{_WORD}|(?:^|[_.-])(?:key|auth|pass|dsn|session)(?:$|[_.-])|authorization", re.IGNORECASE)
_NO_SECRET = re.compile(
    r"(?:name|namespace|type|path|ref|kind|mode|policy|url|uri|file|seconds|expiration)s?$", re.IGNORECASE
)
_OPTION = re.compile(rf"^--?[\w.-]*{_WORD}[\w.-]*$", re.IGNORECASE)

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        MARK,
    ),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), MARK),
    (
        re.compile(
            r"((?:proxy-)?authorization['\"]? *[:=,] *['\"]?)(?:(?:bearer|basic|digest|negotiate)\s+)?[^\s'\",;]+",
            re.IGNORECASE,
        ),
        rf"\1{MARK}",
    ),
    (re.compile(r"\b((?:bearer|basic)\s+)[\w+/.=~-]{8,}", re.IGNORECASE), rf"\1{MARK}"),
    (re.compile(r"((?:set-)?cookie['\"]?[ \t]*[:=][ \t]*)[^\r\n]+", re.IGNORECASE), rf"\1{MARK}"),
    (re.compile(r"(\w://)[^\s/@:]*:[^\s/@]+@"), rf"\1{MARK}@"),
    (re.compile(r"(--with(?:-pid)?[= ])\S+"), rf"\1{MARK}"),
    (
        re.compile(
            rf"([\w.-]*{_WORD}[\w.-]*['\"]?[ \t]*[:=][ \t]*)(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s'\",;&}}\]]+)", re.IGNORECASE
        ),
        rf"\1{MARK}",
    ),
    (re.compile(r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_\w{20,}|xox[abpr]-[\w-]{10,}|sk-[\w-]{16,})"), MARK),
)

_LONG = re.compile(r"[A-Za-z0-9+/_=]{20,}")


class Secrecy:
    """Knows secrets, and takes them out."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._words: set[str] = set()

    def learn(self, value: str | bytes) -> None:
        """Take `value` for a secret wherever it stands."""
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        text = text.strip()
        if len(text) < _SHORTEST or text.lower() in _COMMON:
            return
        forms = set(_forms(text))
        if len(text) < _WORD_UP_TO and text.isalnum():
            # As a part of another word it is that word.
            self._words.add(text)
            forms -= {text}
        self._known |= {form for form in forms if len(form) >= _SHORTEST}
        if "PRIVATE KEY" in text:
            # A log may show a part of it only.
            self._known.update(line for line in text.splitlines() if len(line) >= 16 and "-----" not in line)
        try:
            inside = json.loads(text)
        except (ValueError, RecursionError):
            return
        for name, leaf in _leaves(inside):
            if _NAME.search(name) and leaf != text:
                self.learn(leaf)

    def learn_object(self, resource: str, obj: Any) -> None:
        """Take note of the secrets in an object: all that a Secret holds, and what looks like one elsewhere."""
        if not isinstance(obj, dict):
            return
        if resource == "secrets":
            for key, value in _pairs(obj.get("data")):
                try:
                    content = base64.b64decode(value, validate=True)
                except (binascii.Error, ValueError):
                    self.learn(value)
                    continue
                if not _public(key, content):
                    self.learn(content)
            for _, value in _pairs(obj.get("stringData")):
                self.learn(value)
        for value in _environment(obj):
            self.learn(value)

    def text(self, text: str) -> str:
        """`text` without what looks like a secret, and without those that are known."""
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return self.without_known(text)

    def without_known(self, text: str) -> str:
        """`text` without the secrets that are known."""
        for secret in sorted(self._known, key=len, reverse=True):
            if secret in text:
                text = text.replace(secret, MARK)
        for word in self._words:
            if word in text:
                text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", MARK, text)
        return text

    def object(self, resource: str, obj: Any) -> Any:
        """A copy of an object without its secrets; names, keys and the shape stay."""
        if not isinstance(obj, dict):
            return MARK
        copied = {key: self._value(value, key) for key, value in obj.items()}
        if resource == "secrets":
            for part in ("data", "stringData"):
                if part in obj:
                    held = obj[part]
                    copied[part] = dict.fromkeys(held, MARK) if isinstance(held, dict) else MARK
        return copied

    def _value(self, value: Any, name: str) -> Any:
        if isinstance(value, dict):
            if isinstance(value.get("name"), str) and isinstance(value.get("value"), str):
                # A variable of a container's environment, and whatever else is a pair.
                value = {**value, "value": MARK} if _is_secret(value["name"], value["value"]) else value
            return {key: self._value(one, key) for key, one in value.items()}
        if isinstance(value, list):
            hidden = [isinstance(before, str) and bool(_OPTION.match(before)) for before in ["", *value]]
            return [
                MARK if after_option and isinstance(one, str) else self._value(one, "")
                for one, after_option in zip(value, hidden, strict=False)
            ]
        if not isinstance(value, str):
            return value
        # It holds the whole object once more, and a Secret's data with it.
        if name == _LAST_APPLIED or (_NAME.search(name) and not _NO_SECRET.search(name)):
            return MARK
        return self.text(value)


def _pairs(held: Any) -> Iterator[tuple[str, str]]:
    if isinstance(held, dict):
        yield from ((str(key), value) for key, value in held.items() if isinstance(value, str))


def _public(key: str, content: bytes) -> bool:
    """Whether what stands in a Secret is known to all: where an account is, and the certificates that others trust."""
    return key == "namespace" or (b"BEGIN CERTIFICATE" in content and b"PRIVATE KEY" not in content)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(one, str(key))
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one, name)
    elif isinstance(value, str):
        yield name, value


def _environment(value: Any) -> Iterator[str]:
    """The values of variables, and of options of a command line, that look secret."""
    if isinstance(value, dict):
        name, held = value.get("name"), value.get("value")
        if isinstance(name, str) and isinstance(held, str) and _is_secret(name, held):
            yield held
        for one in value.values():
            yield from _environment(one)
    elif isinstance(value, list):
        for before, one in zip(["", *value], value, strict=False):
            if isinstance(before, str) and isinstance(one, str) and _OPTION.match(before):
                yield one
            yield from _environment(one)


def _is_secret(name: str, value: str) -> bool:
    if _NAME.search(name) and not _NO_SECRET.search(name):
        return True
    if any(pattern.search(value) for pattern, _ in _PATTERNS):
        return True
    return any(_random(one) for one in _LONG.findall(value))


def _random(word: str) -> bool:
    """Whether a word looks drawn by lot: names of objects have small letters only."""
    kinds = (r"[a-z]", r"[A-Z]", r"\d")
    return all(re.search(kind, word) for kind in kinds) or re.fullmatch(r"[0-9a-f]{32,}", word) is not None


def _forms(secret: str) -> Iterable[str]:
    """How a secret may be written."""
    raw = secret.encode()
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield raw.hex()
    for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
        whole = alphabet(raw).decode()
        yield whole
        yield quote(whole, safe="")
        for shift in range(3):
            # Inside of something longer, such as "user:password".
            inner = alphabet(b"\0" * shift + raw + b"\0" * (-(shift + len(raw)) % 3)).decode()
            core = inner[(shift * 8 + 5) // 6 : (shift + len(raw)) * 8 // 6]
            if len(core) >= 6:
                yield core
