"""A certificate for this machine, and the authority that signed it: made once, so that trusting it once is enough."""

from __future__ import annotations

import ipaddress
import shlex
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from taskflow.cluster.private_file import write_private
from taskflow.core.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class LocalCertificate:
    """Files, all PEM. ``authority`` is what clients have to trust."""

    authority: Path
    certificate: Path
    key: Path

    @property
    def advice(self) -> str:
        """How to trust it, for people."""
        path = shlex.quote(str(self.authority))
        return "\n".join(
            [
                f"curl --cacert {path} …; Python: SSL_CERT_FILE={path} (httpx, taskflow.Client)",
                "browsers: import that file as an authority; Debian and Ubuntu, all programs:",
                f"sudo cp {path} /usr/local/share/ca-certificates/taskflow.crt && sudo update-ca-certificates",
            ]
        )


def check() -> None:
    """Raises ConfigurationError when it cannot be made."""
    if find_spec("trustme") is None:
        raise ConfigurationError("--https needs trustme: pip install 'taskflow[cluster]'")


def local_certificate(directory: Path, host: str) -> LocalCertificate:
    """For ``host``, localhost and this machine's name. The authority in ``directory`` is used again; its key, with
    which certificates can be made that its users trust, is readable by nobody else."""
    import trustme

    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority_file, authority_key = directory / "authority.pem", directory / "authority.key"
    if authority_file.exists() and authority_key.exists():
        authority = trustme.CA.from_pem(authority_file.read_bytes(), authority_key.read_bytes())
    else:
        authority = trustme.CA(organization_name="TaskFlow on this machine")
        write_private(authority_key, authority.private_key_pem.bytes())
        authority_file.write_bytes(authority.cert_pem.bytes())
    made = authority.issue_cert(*_names(host))
    files = LocalCertificate(authority_file, directory / "server.pem", directory / "server.key")
    write_private(files.key, made.private_key_pem.bytes())
    files.certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    return files


def _names(host: str) -> list[str]:
    names = {"localhost", "127.0.0.1", "::1", socket.gethostname()}
    try:
        if not ipaddress.ip_address(host).is_unspecified:
            names.add(host)
    except ValueError:
        names.add(host)
    return sorted(name for name in names if name)
