"""The certificate of a deployment without a domain: self-signed, so that HTTPS works from the first minute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deployment.account import Account
from deployment.aws_errors import error_code

STACK_TAG = "taskflow:stack"
_SELF_SIGNED_TAG = "taskflow:self-signed"
_VALID_DAYS = 397  # the longest that browsers take
_RENEWED_BEFORE_DAYS = 60


@dataclass(frozen=True)
class Imported:
    arn: str
    names: frozenset[str]
    ends_at: datetime
    is_new: bool  # made or renewed just now
    was_renewed: bool = False


class SelfSigned:
    """The one certificate of a stack in ACM, found again by its tags. Its key is in ACM alone, never on a disk."""

    def __init__(
        self,
        account: Account,
        stack: str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._account = account
        self._stack = stack
        self._now = now

    @property
    def own_name(self) -> str:
        """What it is called while the load balancer's name is not known yet."""
        return f"{self._stack}.taskflow.internal"

    def find(self) -> Imported | None:
        pages = self._account.pages(
            "acm", "list_certificates", Includes={"keyTypes": ["EC_prime256v1"]}
        )
        for page in pages:
            for summary in page["CertificateSummaryList"]:
                is_imported = summary.get("Type", "IMPORTED") == "IMPORTED"
                if is_imported and self._is_ours(summary["CertificateArn"]):
                    return self._described(summary["CertificateArn"])
        return None

    def ensure(self, *, names: Sequence[str] = ()) -> Imported:
        """There is one, valid for two months and more, and for these names. Under the same ARN it is replaced in place:
        the load balancer takes it up by itself."""
        there = self.find()
        wanted = {self.own_name, *names}
        if there is not None:
            is_old = there.ends_at < self._now() + timedelta(days=_RENEWED_BEFORE_DAYS)
            if not is_old and wanted <= there.names:
                return there
            wanted |= there.names
        certificate, key = self_signed(
            self.own_name, sorted(wanted - {self.own_name}), now=self._now()
        )
        arguments: dict[str, Any] = {"Certificate": certificate, "PrivateKey": key}
        if there is None:
            # In the same call as the import: a run that is killed here leaves one that the next run finds.
            arguments["Tags"] = [
                {"Key": STACK_TAG, "Value": self._stack},
                {"Key": _SELF_SIGNED_TAG, "Value": "true"},
            ]
        else:
            arguments["CertificateArn"] = there.arn
        arn = self._acm.import_certificate(**arguments)["CertificateArn"]
        parsed = x509.load_pem_x509_certificate(certificate)
        return Imported(
            arn,
            frozenset(wanted),
            parsed.not_valid_after_utc,
            is_new=True,
            was_renewed=there is not None,
        )

    def pem(self, arn: str) -> str:
        """What a client has to trust."""
        certificate: str = self._acm.get_certificate(CertificateArn=arn)["Certificate"]
        return certificate

    def delete(self) -> str | None:
        """Its ARN, if there was one; a load balancer that still uses it keeps it (None)."""
        there = self.find()
        if there is None:
            return None
        try:
            self._acm.delete_certificate(CertificateArn=there.arn)
        except ClientError as exc:
            if error_code(exc) == "ResourceInUseException":
                return None
            raise
        return there.arn

    @property
    def _acm(self) -> Any:
        return self._account.client("acm")

    def _is_ours(self, arn: str) -> bool:
        try:
            answer = self._acm.list_tags_for_certificate(CertificateArn=arn)
        except ClientError as exc:
            if error_code(exc) == "ResourceNotFoundException":
                return False  # another stack's, deleted since it was listed
            raise
        tags = {tag["Key"]: tag.get("Value", "") for tag in answer.get("Tags", [])}
        return tags.get(STACK_TAG) == self._stack and tags.get(_SELF_SIGNED_TAG) == "true"

    def _described(self, arn: str) -> Imported:
        parsed = x509.load_pem_x509_certificate(self.pem(arn).encode())
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return Imported(
            arn,
            frozenset(names.get_values_for_type(x509.DNSName)),
            parsed.not_valid_after_utc,
            is_new=False,
        )


def self_signed(name: str, others: Sequence[str], *, now: datetime) -> tuple[bytes, bytes]:
    """Certificate and key in PEM. It signs nothing but itself, so trusting it trusts this endpoint alone."""
    key = ec.generate_private_key(ec.SECP256R1())  # one of those that a load balancer takes
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_VALID_DAYS))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(n) for n in (name, *others)]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private
