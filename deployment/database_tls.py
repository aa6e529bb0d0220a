"""Whether the program verifies who answers it as its database: only if RDS's certificates can be shipped with it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from deployment.account import Account
from deployment.errors import DeployError
from deployment.packaging.database_ca import NOT_VERIFIED, database_ca
from deployment.reporter import Reporter

VERIFIED, ENCRYPTED = "verify-full", "require"  # the template's DatabaseTls
_AWS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")


def certificates_for(
    account: Account, given: Path | None, out: Path, reporter: Reporter, *, required: bool
) -> bytes | None:
    """To be shipped with the code: ``given``, or AWS's for the region. None: there are none, which was said.

    ``required``: the stack verifies already, and would lose its database without. Raises DeployError then, and
    PackagingError for a file that holds none.
    """
    endpoint = urlsplit(account.client("cloudformation").meta.endpoint_url).hostname or ""
    if given is None and not endpoint.endswith(_AWS):
        return None  # an emulator's database is none of RDS's
    keep = out / f"rds-{account.region}.pem"
    found = database_ca(given, account.region, keep=keep)
    if found is None and required:
        raise DeployError(
            "The stack verifies its database, and AWS's certificates for RDS could not be downloaded.",
            "Look at the network, or name a file of them: --database-ca FILE.",
            code="no_database_certificates",
        )
    if found is None:
        reporter.warn(NOT_VERIFIED)
    return found
