"""Paths of the sessions API."""

from __future__ import annotations

from django.urls import path

from apps.workflows.api import sessions as api

SESSIONS = "api/v1/sessions"
ONE = f"{SESSIONS}/<str:session_id>"

urlpatterns = [
    path(SESSIONS, api.Sessions.as_view()),
    path(ONE, api.OneSession.as_view()),
    path(f"{ONE}/document", api.Document.as_view()),
    path(f"{ONE}/steps", api.Steps.as_view()),
    path(f"{ONE}/steps/<str:path>", api.OneStep.as_view()),
    path(f"{ONE}/steps/<str:path>/items", api.Items.as_view()),
    path(f"{ONE}/steps/<str:path>/items/<str:index>", api.OneItem.as_view()),
    path(f"{ONE}/events", api.Events.as_view()),
    path(f"{ONE}/stream", api.Stream.as_view()),
    path(f"{ONE}/results", api.Results.as_view()),
    path(f"{ONE}/cancel", api.Cancel.as_view()),
    path(f"{ONE}/pause", api.Pause.as_view()),
    path(f"{ONE}/resume", api.Resume.as_view()),
    path(f"{ONE}/retry", api.Retry.as_view()),
    path(f"{ONE}/rerun", api.Rerun.as_view()),
    path(f"{ONE}/compensate", api.Compensate.as_view()),
]
