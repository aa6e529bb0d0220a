"""What keeps code from being packaged."""

from __future__ import annotations

from deployment.errors import DeployError


class PackagingError(DeployError):
    """Nothing was written that a later call could mistake for a package."""

    code = "packaging_failed"
