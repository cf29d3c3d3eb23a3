"""An authority for certificates, as an operator has one."""

import subprocess
from pathlib import Path


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)


class Authority:
    """An authority of the test's own, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.ca = folder / "ca.pem"
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", "9"),
            *("-keyout", str(folder / "ca.key"), "-out", str(self.ca)),
        )

    def issue(self, certificate: Path, key: Path, name: str = "IP:127.0.0.1") -> None:
        """Write a certificate and its key, as a client of an authority renews them."""
        request, names = self.folder / "request", self.folder / "names"
        names.write_text(f"subjectAltName={name}\n")
        openssl(
            *("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=gateway"),
            *("-keyout", str(key), "-out", str(request)),
        )
        openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.ca), "-CAcreateserial"),
            *("-CAkey", str(self.folder / "ca.key"), "-days", "90"),
            *("-extfile", str(names), "-out", str(certificate)),
        )
