# SPDX-License-Identifier: Apache-2.0
"""The mesh's certificate authority."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from meshbox.mesh.certificates import LEGACY_LIFETIME, Authority

SPIFFE = "spiffe://cluster.local/ns/bookinfo/sa/"


def test_an_identity_has_the_spiffe_name_and_outlives_a_restart(tmp_path: Path) -> None:
    first, second = Authority(tmp_path), Authority(tmp_path)
    first.load()
    second.load()
    assert first.root == second.root
    assert [oct(f.stat().st_mode & 0o777) for f in sorted(tmp_path.iterdir())] == ["0o600", "0o600"]
    identity = second.identity(f"{SPIFFE}ratings")
    assert second.identity(f"{SPIFFE}ratings") is identity
    leaf, root = x509.load_pem_x509_certificates(identity.chain.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"{SPIFFE}ratings"]
    leaf.verify_directly_issued_by(root)
    assert leaf.not_valid_before_utc < identity.renew < leaf.not_valid_after_utc
    # istiod's: a day, and two minutes for clocks that are slow.
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == datetime.timedelta(days=1, minutes=2)
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_encipherment) == (True, True, True)
    assert (usage.value.key_cert_sign, usage.value.crl_sign, usage.value.key_agreement) == (False, False, False)
    signer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert signer.key_identifier == own.digest
    assert second.identity(f"{SPIFFE}ratings", now=identity.renew) is not identity
    key = serialization.load_pem_private_key(identity.key.encode(), None)
    assert key.public_key() == leaf.public_key()


def test_citadels_identities_live_longer(tmp_path: Path) -> None:
    authority = Authority(tmp_path, LEGACY_LIFETIME)
    authority.load()
    leaf = x509.load_pem_x509_certificate(authority.issue(f"{SPIFFE}x").chain.encode())
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 90


@pytest.mark.parametrize("damage", [b"damaged", b"", b"\xff" * 100, "half"])
def test_a_damaged_key_is_said_kept_aside_and_replaced(
    tmp_path: Path, damage: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    first = Authority(tmp_path)
    first.load()
    file = tmp_path / "ca-key.pem"
    content = damage if isinstance(damage, bytes) else file.read_bytes()[:100]
    file.write_bytes(content)
    second = Authority(tmp_path)
    second.load()
    assert "ca-key.pem was damaged" in caplog.text
    assert (tmp_path / "ca-key.pem.damaged").read_bytes() == content
    assert second.root != first.root
    leaf, root = x509.load_pem_x509_certificates(second.identity(f"{SPIFFE}ratings").chain.encode())
    leaf.verify_directly_issued_by(root)
    third = Authority(tmp_path)
    third.load()
    assert third.root == second.root


@pytest.mark.parametrize("damage", [b"damaged", b"", "another's", "a leaf"])
def test_a_damaged_certificate_is_made_again_with_the_same_key(tmp_path: Path, damage: bytes | str) -> None:
    first = Authority(tmp_path)
    first.load()
    file, key = tmp_path / "ca-cert.pem", (tmp_path / "ca-key.pem").read_bytes()
    if isinstance(damage, str):
        other = Authority(tmp_path / "other")
        other.load()
        damage = other.root.encode() if damage == "another's" else first.issue(f"{SPIFFE}x").chain.encode()
    file.write_bytes(damage)
    second = Authority(tmp_path)
    second.load()
    assert (tmp_path / "ca-key.pem").read_bytes() == key
    assert file.read_text() == second.root
    # Who has an identity of before is trusted still: it is the same key's signature.
    leaf = x509.load_pem_x509_certificates(first.identity(f"{SPIFFE}ratings").chain.encode())[0]
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(second.root.encode()))
