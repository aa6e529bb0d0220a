"""The task queue on Amazon SQS: one standard queue and one dead-letter queue per priority. See docs/aws-queue.md.

Importing any of it raises ConfigurationError where boto3 is not installed.
"""

from taskflow.core.errors import ConfigurationError

try:
    import botocore.exceptions  # noqa: F401
except ImportError as exc:
    raise ConfigurationError(
        "TASKFLOW_QUEUE_BACKEND=sqs needs boto3: pip install 'taskflow[aws]'"
    ) from exc
