# SPDX-License-Identifier: Apache-2.0
"""Whether a Secret holds a certificate that is valid now, and the key that belongs to it."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from labkit.cluster import Obj

__all__ = ["valid"]

_PAIRS = (("tls.crt", "tls.key"), ("cert", "key"))
_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----([A-Za-z0-9+/=\s]+)-----END \1-----")
_SEQUENCE, _INTEGER, _BITS, _OCTETS, _UTC, _TIME = 0x30, 0x02, 0x03, 0x04, 0x17, 0x18


def valid(secret: Obj, now: datetime | None = None) -> bool:
    """Whether a gateway can use a Secret for its certificate.

    Args:
        secret: The Secret, with its data.
        now: When; None for now.
    """
    data = _data(secret)
    for crt, key in _PAIRS:
        if crt in data and key in data:
            with contextlib.suppress(ValueError, IndexError):
                return _pair(data[crt], data[key], now or datetime.now(UTC))
            return False
    return False


def _data(secret: Obj) -> dict[str, bytes]:
    found = {name: text.encode() for name, text in (secret.get("stringData") or {}).items()}
    for name, text in (secret.get("data") or {}).items():
        try:
            found.setdefault(name, base64.b64decode(text, validate=True))
        except ValueError:
            found.setdefault(name, b"")
    return found


def _pair(crt: bytes, key: bytes, now: datetime) -> bool:
    """Whether a certificate is valid and a key is its own; a key that does not say its public half is believed."""
    certificate = [base64.b64decode(one[2]) for one in _PEM.finditer(crt) if one[1] == b"CERTIFICATE"][0]  # noqa: RUF015
    private = [base64.b64decode(one[2]) for one in _PEM.finditer(key) if b"PRIVATE KEY" in one[1]][0]  # noqa: RUF015
    times = [_time(tag, body) for tag, body in _walk(certificate) if tag in (_UTC, _TIME)]
    if len(times) < 2 or not times[0] <= now <= times[1]:
        return False
    # Of an RSA key the modulus comes first, of another its public point: either stands in the certificate.
    public = next((body for tag, body in _walk(private) if tag in (_INTEGER, _BITS) and len(body) > 32), b"")
    return public in certificate


def _walk(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tags and bodies of what lies in DER, in order, also in what is built of others or wraps them."""
    at = 0
    while at + 2 <= len(der):
        tag, size, at = der[at], der[at + 1], at + 2
        if size & 0x80:
            width = size & 0x7F
            size, at = int.from_bytes(der[at : at + width]), at + width
        body, at = der[at : at + size], at + size
        if len(body) < size:
            raise ValueError("DER ends within a value")
        yield tag, body
        if tag & 0x20:
            yield from _walk(body)
        elif tag == _OCTETS and body[:1] == bytes([_SEQUENCE]):
            # Of 256 secret numbers one begins like a value that is wrapped, and is none.
            with contextlib.suppress(ValueError):
                yield from list(_walk(body))


def _time(tag: int, body: bytes) -> datetime:
    text = body.decode("ascii")
    # Of two digits of the year, those from 50 on are of the last century.
    text = text if tag == _TIME else ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
