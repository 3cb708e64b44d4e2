"""Paths of the tasks API."""

from __future__ import annotations

from django.urls import path

from apps.tasks import api, api_bulk, api_streams

urlpatterns = [
    path("internal/process-task", api.ProcessTask.as_view()),
    path("api/v1/tasks", api.Tasks.as_view()),
    path("api/v1/tasks/bulk", api_bulk.BulkSubmit.as_view()),
    path("api/v1/tasks/stream", api_streams.OrgStream.as_view()),
    path("api/v1/tasks/summary", api.Summary.as_view()),
    path("api/v1/tasks/<str:task_id>", api.OneTask.as_view()),
    path("api/v1/tasks/<str:task_id>/sub-tasks", api.SubTasks.as_view()),
    path("api/v1/tasks/<str:task_id>/events", api.Events.as_view()),
    path("api/v1/tasks/<str:task_id>/stream", api_streams.TaskStream.as_view()),
    path("api/v1/tasks/<str:task_id>/cancel", api.Cancel.as_view()),
    path("api/v1/tasks/<str:task_id>/approve", api.Approve.as_view()),
    path("api/v1/tasks/<str:task_id>/reject", api.Reject.as_view()),
]
