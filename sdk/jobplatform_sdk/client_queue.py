"""The calls about the queue: how it stands, pause, resume, another priority. For operators' keys."""

from __future__ import annotations

from typing import Any

from jobplatform_sdk.client_calls import Answer, Call, _post, path_of
from jobplatform_sdk.client_errors import BadAnswer
from jobplatform_sdk.client_values import Json, Task, read_task

QUEUE = "/api/v1/queue"


def show() -> Call[Json]:
    return Call(method="GET", path=QUEUE, read=_board)


def pause(reason: str, job_space: str | None) -> Call[Json]:
    return _post(f"{QUEUE}/pause", _body(reason=reason, job_space_id=job_space), _board)


def resume(reason: str, job_space: str | None) -> Call[Json]:
    return _post(f"{QUEUE}/resume", _body(reason=reason, job_space_id=job_space), _board)


def set_priority(task_id: str, priority: int, reason: str) -> Call[Task]:
    body = {"priority": priority, **_body(reason=reason)}
    return _post(path_of(task_id, "priority"), body, lambda answer: read_task(answer.json()))


def _body(**members: Any) -> Json:
    return {name: value for name, value in members.items() if value}


def _board(answer: Answer) -> Json:
    found = answer.json()
    if not isinstance(found, dict):
        raise BadAnswer("The platform's queue is not an object.", code="bad_answer")
    return found
