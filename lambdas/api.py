"""The HTTP API, behind an ALB, API Gateway (HTTP API) or a function URL. Handler: `lambdas.api.handler`."""

from lambdas import started
from taskflow.serverless.container import Container
from taskflow.serverless.http import ApiFunction

handler = started(ApiFunction(Container("lambda-api")))
