"""Sends what waits in the outbox, takes over what dead workers left, deletes what is old: one tick of all of it.

Handler: `lambdas.maintenance.handler`, called by a schedule, once a minute. Any number may run at once.
"""

from lambdas import started
from taskflow.serverless.container import Container
from taskflow.serverless.maintenance import MaintenanceFunction

handler = started(MaintenanceFunction(Container("lambda-maintenance")))
