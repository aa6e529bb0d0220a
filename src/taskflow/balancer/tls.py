"""The certificate: loaded at start, and again without dropping a connection."""

from __future__ import annotations

import ssl

from taskflow.balancer.options import Tls
from taskflow.core.errors import ConfigurationError

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Certificate:
    """``context`` is for the listener; a certificate loaded later counts from the next handshake on."""

    def __init__(self, options: Tls) -> None:
        self._options = options
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = _VERSIONS[options.minimum]
        self.context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        self.context.set_alpn_protocols(["http/1.1"])
        self.load()

    def load(self) -> None:
        """Raises ConfigurationError, leaving the former certificate in use."""
        certificate, key = self._options.certificate, self._options.key
        try:
            # Tried on a context nobody uses: half a change would be left behind by a key that does not fit.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, _no_password)
            self.context.load_cert_chain(certificate, key, _no_password)
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            reason = getattr(exc, "reason", None) or getattr(exc, "strerror", None) or exc
            raise ConfigurationError(
                f"certificate {certificate} with key {key}: {reason}"
                " (TASKFLOW_BALANCER_TLS_CERTIFICATE, TASKFLOW_BALANCER_TLS_KEY)"
            ) from exc


def _no_password() -> str:
    """Instead of a prompt on the terminal."""
    raise ValueError("the key is encrypted; give one without a password")
