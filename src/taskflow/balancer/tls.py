"""The certificate: loaded at start, and again without dropping a connection."""

from __future__ import annotations

import ssl

from taskflow.balancer.options import Tls
from taskflow.core.errors import ConfigurationError

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Certificate:
    """``context`` is for the listener; a certificate loaded later counts from the next handshake on.

    Each one has a context of its own, which handshakes are moved to: a context keeps one certificate for every type of
    key, so that after a change from ECDSA to RSA the old one would go on being shown.
    """

    def __init__(self, options: Tls) -> None:
        self._options = options
        self._current = self._loaded()
        self.context = self._new_context()
        self.context.sni_callback = self._choose

    def load(self) -> None:
        """Raises ConfigurationError, leaving the former certificate in use."""
        self._current = self._loaded()

    def _choose(
        self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        """Called for every client, also for those that name no host."""
        handshake.context = self._current

    def _loaded(self) -> ssl.SSLContext:
        certificate, key = self._options.certificate, self._options.key
        context = self._new_context()
        try:
            context.load_cert_chain(certificate, key, _no_password)
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            reason = getattr(exc, "reason", None) or getattr(exc, "strerror", None) or exc
            raise ConfigurationError(
                f"certificate {certificate} with key {key}: {reason}"
                " (TASKFLOW_BALANCER_TLS_CERTIFICATE, TASKFLOW_BALANCER_TLS_KEY)"
            ) from exc
        return context

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self._options.minimum]
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(["http/1.1"])
        return context


def _no_password() -> str:
    """Instead of a prompt on the terminal."""
    raise ValueError("the key is encrypted; give one without a password")
