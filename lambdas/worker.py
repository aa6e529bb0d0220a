"""Runs the tasks that messages name. Handler: `lambdas.worker.handler`.

Event source: the queues of the priorities, ReportBatchItemFailures on; their visibility timeout is at least the
function's timeout, better six times as long.
"""

from lambdas import started
from taskflow.serverless.container import Container
from taskflow.serverless.worker import WorkerFunction

handler = started(WorkerFunction(Container("lambda-worker")))
