"""AWS sessions: what the clients of SQS, S3 and Secrets Manager are made from."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from taskflow.core.errors import ConfigurationError

if TYPE_CHECKING:
    from botocore.session import Session


def require_boto3(what: str) -> None:
    """Raises ConfigurationError, which says how to install it, where it is missing. ``what`` needs it, a setting as a
    rule."""
    try:
        import botocore.session  # noqa: F401 - a part of boto3, and all that most of TaskFlow uses of it
    except ImportError as exc:
        raise ConfigurationError(
            f"{what} needs boto3, which is not installed: pip install 'taskflow[aws]'"
        ) from exc


def session(region: str | None) -> Session:
    """A new session of botocore; credentials, and what ``region`` leaves open, are AWS's own variables and files.

    Descriptions of AWS's services are read from disk once per process: they are most of what a client costs.
    Raises ImportError without boto3: `require_boto3` first.
    """
    import botocore.session

    made = botocore.session.Session()
    made.register_component("data_loader", _loader(made.get_config_variable("data_path")))
    if region:
        made.set_config_variable("region", region)
    return made


def ignores_endpoints() -> bool:
    """Whether boto3 goes to AWS itself, whatever AWS_ENDPOINT_URL says: a variable or the profile wants it so.

    Raises ConfigurationError without boto3, and when AWS's files cannot be read.
    """
    require_boto3("an emulator of AWS")
    from botocore.exceptions import BotoCoreError

    try:
        return bool(session(None).get_config_variable("ignore_configured_endpoint_urls"))
    except BotoCoreError as exc:
        raise ConfigurationError(f"AWS cannot be used as its variables are set: {exc}") from exc


@functools.cache
def _loader(search_path: str | None) -> Any:
    from taskflow.aws.descriptions import Descriptions

    return Descriptions(search_path)
