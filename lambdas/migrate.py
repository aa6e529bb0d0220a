"""Creates the store's schema or brings it up to date, before new code is let at it.

Handler: `lambdas.migrate.handler`.
"""

from lambdas import started
from taskflow.serverless.migrate import MigrateFunction

handler = started(MigrateFunction())
