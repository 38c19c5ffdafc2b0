# SPDX-License-Identifier: Apache-2.0
"""An authority of one's own, plugged into istiod: identities are signed by it, and what does not fit stops istiod."""

from __future__ import annotations

import asyncio
import base64
import datetime
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from meshbox.mesh.certificates import Authority
from meshbox.mesh.control_plane import ControlPlane
from meshbox.mesh.identities import IdentityWriter
from meshbox.mesh.plugged import plugged

from .cluster import Cluster

PEM = serialization.Encoding.PEM
KEYS = [rsa.generate_private_key(65537, 2048) for _ in range(2)]


def certificate(name: str, key: rsa.RSAPrivateKey, issuer: str, signer: rsa.RSAPrivateKey, ca: bool = True) -> bytes:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer)]
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(names[1], names[0], key.public_key(), 7, now, now + datetime.timedelta(9))
    limits = x509.BasicConstraints(ca=ca, path_length=None)
    return made.add_extension(limits, critical=True).sign(signer, hashes.SHA256()).public_bytes(PEM)


ROOT, MIDDLE = certificate("root", KEYS[0], "root", KEYS[0]), certificate("ours", KEYS[1], "root", KEYS[0])
SECRET = KEYS[1].private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
FILES = {"ca-cert.pem": MIDDLE, "ca-key.pem": SECRET, "root-cert.pem": ROOT, "cert-chain.pem": MIDDLE + ROOT}
REFUSED: list[tuple[dict[str, bytes | None], str]] = [
    ({"cert-chain.pem": None}, "incomplete signing CA bundle detected"),
    ({"ca-cert.pem": ROOT}, "failed to create CA KeyCertBundle (the cert does not match the key)"),
    ({"ca-key.pem": b"x"},
     "failed to create CA KeyCertBundle (its certificates or its key are no PEM that can be read)"),
    ({"root-cert.pem": certificate("root", KEYS[1], "root", KEYS[1])},
     "failed to create CA KeyCertBundle (cannot verify the cert with the provided root chain and cert pool)"),
    ({"ca-cert.pem": certificate("ours", KEYS[1], "root", KEYS[0], ca=False)},
     "certificate is not authorized to sign other certificates"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), REFUSED)
def test_what_does_not_fit_is_refused(change: dict[str, bytes | None], words: str) -> None:
    with pytest.raises(ValueError, match=r"^failed to create an istiod CA: ") as refused:
        plugged({name: data for name, data in {**FILES, **change}.items() if data is not None})
    assert str(refused.value).endswith(f": {words}")


@pytest.mark.parametrize("files", [FILES, {"tls.crt": MIDDLE, "tls.key": SECRET, "ca.crt": ROOT}])
async def test_an_istiod_that_starts_brings_its_authority_along(
    cluster_of: Callable[[str], Cluster], tmp_path: Path, files: dict[str, bytes]
) -> None:
    cluster, authority = cluster_of("1.30.3"), Authority(tmp_path / "mesh")
    authority.load()
    own = authority.root
    control: Any = ControlPlane(cluster, None, None, None, authority)  # type: ignore[arg-type]
    asked = SimpleNamespace(path="/control-plane/authority", method="GET", query={})

    async def start(istiod: str) -> int:
        """Its pod may be ready before it asks, as Citadel's; all are told to trust what the authority is now."""
        meta = {"name": istiod, "labels": {"app": "istiod"}}
        spec = {"containers": [{"name": "discovery", "image": "istio/pilot:1.30.3"}]}
        made = cluster.create("pods", {"metadata": meta, "spec": spec}, "istio-system")
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        cluster.update("pods", {**made, "status": ready}, subresource="status")
        status: int = (await control.answer(asked)).status
        async with asyncio.timeout(240):
            while trusted() != authority.root:
                await asyncio.sleep(0.005)
        return status

    def trusted() -> Any:
        found = cluster.find("configmaps", "istio-ca-root-cert", "istio-system")
        return found and found["data"]["root-cert.pem"]

    writer = IdentityWriter(cluster, authority, legacy=False)
    writer.start()
    assert (await start("before"), trusted()) == (200, own)
    data = {name: base64.b64encode(text).decode() for name, text in files.items()}
    secret = cluster.create("secrets", {"metadata": {"name": "cacerts"}, "data": data}, "istio-system")
    assert (await start("after"), trusted()) == (200, ROOT.decode())
    leaf, *shown = x509.load_pem_x509_certificates(authority.identity("spiffe://x").chain.encode())
    leaf.verify_directly_issued_by(shown[0])
    assert [one.public_bytes(PEM) for one in shown] == [MIDDLE, ROOT, ROOT]
    # A new authority in between is followed; a new root is not.
    stranger = certificate("other", KEYS[1], "other", KEYS[1])
    for root, issuer in ((stranger, "ours"), (ROOT, "newer")):
        newer = certificate(issuer, KEYS[1], "root", KEYS[0]) if root == ROOT else stranger
        changed = {"ca-cert.pem": newer, "ca-key.pem": SECRET, "root-cert.pem": root, "cert-chain.pem": newer}
        encoded = {name: base64.b64encode(text).decode() for name, text in changed.items()}
        secret = cluster.update("secrets", {**secret, "data": encoded})
        authority.follow(cluster)
        made = x509.load_pem_x509_certificates(authority.issue("spiffe://y").chain.encode())
        assert made[0].issuer.rfc4514_string() == f"CN={issuer}"
        assert trusted() == authority.root == ROOT.decode()
    cluster.update("secrets", {**secret, "data": {"ca-cert.pem": ""}})
    authority.follow(cluster)
    assert ((await control.answer(asked)).status, authority.root) == (409, ROOT.decode())
    cluster.delete("secrets", "cacerts", "istio-system")
    assert (await start("last"), trusted()) == (200, own)
    await writer.stop()
