"""Paths of the tasks API."""

from __future__ import annotations

from django.urls import path

from apps.tasks.api import auctions as api_auctions
from apps.tasks.api import bulk as api_bulk
from apps.tasks.api import bulk_actions as api_bulk_actions
from apps.tasks.api import dead_letters as api_dead_letters
from apps.tasks.api import explain as api_explain
from apps.tasks.api import people as api_people
from apps.tasks.api import queue as api_queue
from apps.tasks.api import schedules as api_schedules
from apps.tasks.api import streams as api_streams
from apps.tasks.api import tasks as api  # fmt: skip

urlpatterns = [
    path("internal/process-task", api.ProcessTask.as_view()),
    path("api/v1/tasks", api.Tasks.as_view()),
    path("api/v1/tasks/bulk", api_bulk.BulkSubmit.as_view()),
    path("api/v1/tasks/stream", api_streams.OrgStream.as_view()),
    path("api/v1/tasks/summary", api.Summary.as_view()),
    path("api/v1/tasks/actions", api_bulk_actions.TaskActions.as_view()),
    path("api/v1/dead-letters/actions", api_bulk_actions.DeadLetterActions.as_view()),
    path("api/v1/bulk-actions", api_bulk_actions.BulkActions.as_view()),
    path("api/v1/bulk-actions/<str:action_id>", api_bulk_actions.OneBulkAction.as_view()),
    path("api/v1/bulk-actions/<str:action_id>/stop", api_bulk_actions.StopBulkAction.as_view()),
    path("api/v1/dead-letters", api_dead_letters.DeadLetters.as_view()),
    path("api/v1/dead-letters/<str:task_id>/requeue", api_dead_letters.RequeueDeadLetter.as_view()),
    path("api/v1/dead-letters/<str:task_id>/discard", api_dead_letters.DiscardDeadLetter.as_view()),
    path("api/v1/schedules", api_schedules.Schedules.as_view()),
    path("api/v1/schedules/preview", api_schedules.PreviewSchedule.as_view()),
    path("api/v1/schedules/<str:name>", api_schedules.OneSchedule.as_view()),
    path("api/v1/schedules/<str:name>/next", api_schedules.NextTimes.as_view()),
    path("api/v1/schedules/<str:name>/firings", api_schedules.Firings.as_view()),
    path("api/v1/schedules/<str:name>/pause", api_schedules.Pause.as_view()),
    path("api/v1/schedules/<str:name>/resume", api_schedules.Resume.as_view()),
    path("api/v1/schedules/<str:name>/run", api_schedules.RunNow.as_view()),
    path("api/v1/tasks/simulate", api_explain.Simulate.as_view()),
    path("api/v1/tasks/<str:task_id>", api.OneTask.as_view()),
    path("api/v1/tasks/<str:task_id>/sub-tasks", api.SubTasks.as_view()),
    path("api/v1/tasks/<str:task_id>/explain", api_explain.Explain.as_view()),
    path("api/v1/tasks/<str:task_id>/events", api.Events.as_view()),
    path("api/v1/tasks/<str:task_id>/auctions", api_auctions.Auctions.as_view()),
    path("api/v1/tasks/<str:task_id>/stream", api_streams.TaskStream.as_view()),
    path("api/v1/tasks/<str:task_id>/priority", api_queue.Priority.as_view()),
    path("api/v1/tasks/<str:task_id>/cancel", api.Cancel.as_view()),
    path("api/v1/tasks/<str:task_id>/approve", api_people.Approve.as_view()),
    path("api/v1/tasks/<str:task_id>/reject", api_people.Reject.as_view()),
    path("api/v1/tasks/<str:task_id>/assign", api_people.Assign.as_view()),
    path("api/v1/tasks/<str:task_id>/verify", api_people.Verify.as_view()),
    path("api/v1/queue", api_queue.Queue.as_view()),
    path("api/v1/queue/pause", api_queue.Pause.as_view()),
    path("api/v1/queue/resume", api_queue.Resume.as_view()),
]
