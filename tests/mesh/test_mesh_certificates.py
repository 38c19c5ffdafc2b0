"""The mesh's certificate authority."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from labkit.sandbox.mesh.certificates import LEGACY_LIFETIME, Authority

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
    assert second.identity(f"{SPIFFE}ratings", now=identity.renew) is not identity
    key = serialization.load_pem_private_key(identity.key.encode(), None)
    assert key.public_key() == leaf.public_key()


def test_citadels_identities_live_longer(tmp_path: Path) -> None:
    authority = Authority(tmp_path, LEGACY_LIFETIME)
    authority.load()
    leaf = x509.load_pem_x509_certificate(authority.issue(f"{SPIFFE}x").chain.encode())
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 90


def test_a_damaged_key_is_said_and_not_replaced(tmp_path: Path) -> None:
    Authority(tmp_path).load()
    (tmp_path / "ca-key.pem").write_text("damaged")
    with pytest.raises(ValueError, match="PEM"):
        Authority(tmp_path).load()
