"""The task queue on Amazon SQS: one standard queue and one dead-letter queue per priority. See docs/aws-queue.md.

Importing any of it raises ConfigurationError where boto3 is not installed.
"""

from taskflow.aws import require_boto3

require_boto3("TASKFLOW_QUEUE_BACKEND=sqs")
