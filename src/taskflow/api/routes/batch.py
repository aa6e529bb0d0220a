"""Many submissions in one request."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Request
from starlette.responses import Response

from taskflow.api import examples
from taskflow.api.body import JSONRoute
from taskflow.api.dependencies import (
    RuntimeParts,
    Tenant,
    refuse_idempotency_key,
    request_id_of,
    traceparent_of,
)
from taskflow.api.errors import problem_of
from taskflow.api.openapi import with_body
from taskflow.api.routes import PREFIX
from taskflow.api.schemas import SubmitBatch, SubmitTask
from taskflow.api.views import BatchAnswer, accepted, json_response
from taskflow.core.errors import InvalidRequestError, TaskFlowError
from taskflow.core.submission import Accepted, Submission

router = APIRouter(prefix=PREFIX, route_class=JSONRoute, tags=["Tasks"])


@router.post("/tasks/batch", status_code=202, response_model=BatchAnswer, responses=with_body(503))
def submit_batch(
    body: Annotated[SubmitBatch, Body(openapi_examples=examples.BATCH)],
    request: Request,
    runtime: RuntimeParts,
    tenant: Tenant,
) -> Response:
    """Accept up to 1,000 tasks. Those accepted are durable once this returns.

    `items[i]` answers `tasks[i]`: the task, or the problem with it (unknown task, wrong
    arguments, queue full, …), which does not stop the others. A body that does not fit
    the schema is refused as a whole. Idempotency keys are the tasks' own, not the header's.
    """
    refuse_idempotency_key(request)
    most = runtime.settings.max_batch_size
    if len(body.tasks) > most:
        message = f"at most {most} submissions (TASKFLOW_MAX_BATCH_SIZE)"
        raise InvalidRequestError(message, fields=[{"field": "tasks", "message": message}])
    wanted = [_submission(item) for item in body.tasks]
    good = [submission for submission in wanted if isinstance(submission, Submission)]
    answers = iter(
        runtime.submissions.submit(
            tenant, good, request_id=request_id_of(request), traceparent=traceparent_of(request)
        )
    )
    items = [
        _item(item.task, next(answers) if isinstance(submission, Submission) else submission)
        for item, submission in zip(body.tasks, wanted, strict=True)
    ]
    return json_response(orjson.dumps({"items": items}, option=orjson.OPT_UTC_Z), 202)


def _submission(item: SubmitTask) -> Submission | TaskFlowError:
    try:
        return item.to_submission()
    except InvalidRequestError as exc:
        return exc


def _item(task: str, answer: Accepted | TaskFlowError) -> dict[str, Any]:
    if isinstance(answer, TaskFlowError):
        return problem_of(answer)
    return accepted(task, answer)
