"""The HTTP face of tasks: submit, look, ask why, steer. Views translate, make one domain call, translate back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.views import APIView

from apps.core import clock, ids
from apps.core.errors import Conflict, Invalid, Malformed, Missing, Problem, Refused, Unassignable
from apps.core.http import answer, read_object
from apps.orgs.access import AGENT, SUBMITTER, RequireRole
from apps.tasks import shapes, steering
from apps.tasks.api import docs
from apps.tasks.api.bodies import reason_of
from apps.tasks.api.courtesy import courtesy
from apps.tasks.arrivals import Arrivals
from apps.tasks.intake import TaskIntake, Verdict
from apps.tasks.listing import TaskQuery
from apps.tasks.models import Task
from apps.tasks.parser import InitialJobParser
from apps.tasks.states import TaskStatus

WAIT_DEFAULT_SECONDS, WAIT_MAX_SECONDS = 5.0, 30.0


class NoAgent(Unassignable):
    shown = ("task_id", "reason")


class EndedEarly(Conflict):
    code, sentence, shown = "ended", "The task has ended before an agent was assigned.", ("task_id", "status", "reason")


class TaskView(APIView):
    permission_classes = [RequireRole(SUBMITTER)]

    def task(self, task_id: str) -> Task:
        """The org's task; another org's is as missing as one that never was."""
        found = Task.objects.filter(pk=ids.task_key(self.request.user.org_id, task_id)).first()
        if found is None:
            raise Missing()
        return found


# ---- submit -----------------------------------------------------------------------------------------------


class ProcessTask(TaskView):
    permission_classes = [RequireRole(SUBMITTER, AGENT)]

    @extend_schema(**docs.PROCESS_TASK)
    def post(self, request: Any) -> HttpResponse:
        seconds = _wait_seconds(request, default=WAIT_DEFAULT_SECONDS)
        verdict = _submit(request, read_object(request), now=clock.now())
        status, agent, reason = verdict.status, verdict.agent, verdict.reason
        if status == TaskStatus.QUEUED:
            task = Arrivals().wait(verdict.key, _has_left_the_queue, seconds=seconds)
            status, agent, reason = TaskStatus(task.status), task.head_agent_subject_id, task.reason
        facts = {"task_id": verdict.task_id, "reason": reason}
        if status in (TaskStatus.QUEUED, TaskStatus.AWAITING_APPROVAL):
            return answer({"status": status.value, **facts}, 202, verdict.headers)
        if status == TaskStatus.REJECTED:
            raise Refused(**facts)
        if status in (TaskStatus.CANCELLED, TaskStatus.EXPIRED):
            raise EndedEarly(status=status.value, **facts)
        if not agent:
            raise NoAgent(**facts)
        said = {"status": "assigned", "subject_id": agent, "task_id": verdict.task_id, "task_status": status.value}
        return answer(said, headers=verdict.headers)


class Tasks(TaskView):
    @extend_schema(**docs.LIST)
    def get(self, request: Any) -> HttpResponse:
        tasks, following = TaskQuery.of(request.query_params).page(request.user.org_id)
        return answer({"items": shapes.briefs(tasks), "next_cursor": following})

    @extend_schema(**docs.SUBMIT)
    def post(self, request: Any) -> HttpResponse:
        seconds = _wait_seconds(request, default=0.0)
        verdict = _submit(request, read_object(request), now=clock.now())
        if verdict.status == TaskStatus.QUEUED:
            task = Arrivals().wait(verdict.key, _has_left_the_queue, seconds=seconds)
        else:
            task = self.task(verdict.task_id)
        headers = {"Location": f"/api/v1/tasks/{verdict.task_id}", **verdict.headers}
        return answer(shapes.full(task), 200 if verdict.repeated else 201, headers)


def _submit(request: Any, body: dict[str, Any], *, now: datetime) -> Verdict:
    """Raises whatever the verdict says."""
    if request.path.startswith("/internal/") or "type" in body:
        (kind, data), prefix = enveloped(body), "data."
    else:
        kind, data, prefix = "", body, ""
    try:
        # The spec's path wants a task's submitter; on ours it may be left out. A sub-task's entry has none.
        wanted = request.path.startswith("/internal/") and kind == "task"
        entry = InitialJobParser().parse(data, kind=kind, submitter="" if wanted else request.user.submitter)
        with courtesy.single(request.user.org_id):
            verdict = TaskIntake().submit(entry, request.user, now=now)
        if verdict.error is not None:
            raise verdict.error
    except Invalid as error:
        raise Invalid([Problem(field=(prefix + p.field).rstrip("."), code=p.code, message=p.message) for p in error.problems]) from None
    return verdict


def enveloped(body: dict[str, Any]) -> tuple[str, Any]:
    """`{"type": "task", "data": {…}}` → the type and the data."""
    problems = [
        Problem(field=name[:80], code="unknown", message="is not a field of a submission") for name in body.keys() - {"type", "data"}
    ]
    problems += [Problem(field=name, code="missing", message="is required") for name in ("type", "data") if name not in body]
    kind = body.get("type", "task")
    if kind not in ("task", "sub_task"):
        code = "not_allowed" if isinstance(kind, str) else "wrong_type"
        problems.append(Problem(field="type", code=code, message="must be task or sub_task"))
    if problems:
        raise Invalid(problems)
    return kind, body["data"]


def _has_left_the_queue(task: Task) -> bool:
    return task.status != TaskStatus.QUEUED


def _wait_seconds(request: Any, *, default: float) -> float:
    raw = request.query_params.get("wait")
    if raw is None:
        return default
    try:
        seconds = float(raw) if len(raw) <= 8 else -1.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= WAIT_MAX_SECONDS:  # not-a-number included
        raise Malformed(f"wait must be a number of seconds from 0 to {WAIT_MAX_SECONDS:g}.")
    return seconds


# ---- look -------------------------------------------------------------------------------------------------


class Summary(TaskView):
    @extend_schema(**docs.SUMMARY)
    def get(self, request: Any) -> HttpResponse:
        return answer(shapes.counts(request.user.org_id))


class OneTask(TaskView):
    permission_classes = [RequireRole(SUBMITTER, AGENT)]

    @extend_schema(**docs.GET)
    def get(self, request: Any, task_id: str) -> HttpResponse:
        task = self.task(task_id)
        if request.user.role == AGENT and not self._concerns(task, request.user.subject_id):
            raise Missing()
        return answer(shapes.full(task))

    def _concerns(self, task: Task, agent: str) -> bool:
        """An agent may look at what it does, at the parts of what it does, and at what it is asked to verify."""
        parent = Task.objects.filter(pk=task.parent_key).only("head_agent_subject_id").first() if task.parent_key else None
        return agent in (task.head_agent_subject_id, parent and parent.head_agent_subject_id, *task.people.get("of", ()))


class SubTasks(TaskView):
    permission_classes = [RequireRole(SUBMITTER, AGENT)]

    @extend_schema(**docs.SUB_TASKS)
    def get(self, request: Any, task_id: str) -> HttpResponse:
        """The parts of a task, newest first. An agent sees those of the task it is head agent of, with their results."""
        parent = self.task(task_id)
        if request.user.role == AGENT and parent.head_agent_subject_id != request.user.subject_id:
            raise Missing()
        query = TaskQuery.of(request.query_params, parent=task_id)
        tasks, following = query.page(request.user.org_id)
        return answer({"items": shapes.briefs(tasks), "next_cursor": following})

    @extend_schema(**docs.SUBMIT_SUB_TASK)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        """As `POST /api/v1/tasks` with a sub-task; the path names the parent."""
        body = read_object(request)
        if body.get("task_id", task_id) != task_id:
            raise Invalid([Problem(field="task_id", code="conflict", message="differs from the task in the path")])
        verdict = _submit(request, {**body, "task_id": task_id, "sub_task_id": body.get("sub_task_id")}, now=clock.now())
        task = self.task(verdict.task_id)
        return answer(shapes.full(task), 200 if verdict.repeated else 201, {"Location": f"/api/v1/tasks/{verdict.task_id}"})


class Events(TaskView):
    @extend_schema(**docs.EVENTS)
    def get(self, request: Any, task_id: str) -> HttpResponse:
        return answer({"items": shapes.history(self.task(task_id).key)})


# ---- steer ------------------------------------------------------------------------------------------------


class Cancel(TaskView):
    @extend_schema(**docs.CANCEL)
    def post(self, request: Any, task_id: str) -> HttpResponse:
        task = self.task(task_id)
        task = steering.cancel(task, actor=request.user.actor, reason=reason_of(request), now=clock.now())
        return answer(shapes.full(task))
