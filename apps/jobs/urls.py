"""Paths of the jobs API."""

from __future__ import annotations

from django.urls import path

from apps.jobs.api import jobs as api

JOBS = "api/v1/jobs"
ONE = f"{JOBS}/<str:job_id>"

urlpatterns = [
    path(JOBS, api.Jobs.as_view()),
    path(f"{JOBS}/summary", api.Summary.as_view()),
    path(ONE, api.OneJob.as_view()),
    path(f"{ONE}/events", api.Events.as_view()),
    path(f"{ONE}/stream", api.Stream.as_view()),
    path(f"{ONE}/cancel", api.Cancel.as_view()),
    path(f"{ONE}/retry", api.Retry.as_view()),
]
