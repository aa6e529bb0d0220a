"""Takes up the messages that SQS has given up. Handler: `lambdas.dead_letters.handler`.

Event source: the dead-letter queues, ReportBatchItemFailures on.
"""

from taskflow.serverless.container import Container
from taskflow.serverless.dead_letters import DeadLettersFunction

handler = DeadLettersFunction(Container("lambda-dead-letters"))
