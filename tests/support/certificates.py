"""Certificates for tests of TLS, made by openssl: an authority, and a server and a client that it signed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from roost.service.tls import TlsFiles

NEEDS_OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates of these tests")


def make_certificates(folder: Path) -> None:
    """authority.pem, and server and client each with NAME.pem and NAME.key, for localhost and 127.0.0.1, good for two days."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "authority.key", "-out", "authority.pem", "-subj", "/CN=authority", "-days", "2")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed_by = ("-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-days", "2", "-extfile", "names", *signed_by)


def files_of(folder: Path, name: str) -> TlsFiles:
    """What `name` ("server" or "client") is given, to show itself and to check the other side."""
    return TlsFiles(folder / f"{name}.pem", folder / f"{name}.key", folder / "authority.pem")
