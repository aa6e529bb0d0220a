"""AWS sessions: what the clients of SQS, S3 and Secrets Manager are made from."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botocore.session import Session


def session(region: str | None) -> Session:
    """A new session of botocore; credentials, and what ``region`` leaves open, are AWS's own variables and files.

    Descriptions of AWS's services are read from disk once per process: they are most of what a client costs.
    Raises ImportError without boto3, of which botocore is a part.
    """
    import botocore.session

    made = botocore.session.Session()
    made.register_component("data_loader", _loader(made.get_config_variable("data_path")))
    if region:
        made.set_config_variable("region", region)
    return made


@functools.cache
def _loader(search_path: str | None) -> Any:
    from taskflow.aws.descriptions import Descriptions

    return Descriptions(search_path)
