"""Takes up the messages that SQS has given up. Handler: `lambdas.dead_letters.handler`.

Event source: the dead-letter queues, ReportBatchItemFailures on.
"""

from lambdas import started
from taskflow.serverless.container import Container
from taskflow.serverless.dead_letters import DeadLettersFunction

handler = started(DeadLettersFunction(Container("lambda-dead-letters")))
