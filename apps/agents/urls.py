"""Paths of the agents' API."""

from __future__ import annotations

from django.urls import path

from apps.agents import api

urlpatterns = [
    path("api/v1/agents", api.AgentList.as_view()),
    path("api/v1/agents/<str:subject_id>", api.OneAgent.as_view()),
    path("api/v1/agents/<str:subject_id>/pause", api.Pause.as_view()),
    path("api/v1/agents/<str:subject_id>/resume", api.Resume.as_view()),
    path("api/v1/agents/<str:subject_id>/drain", api.Drain.as_view()),
    path("api/v1/agents/<str:subject_id>/undrain", api.Undrain.as_view()),
    path("api/v1/agents/<str:subject_id>/reset-breaker", api.ResetBreaker.as_view()),
    path("api/v1/agents/<str:subject_id>/revoke", api.Revoke.as_view()),
    path("api/v1/enrolments", api.Enrolments.as_view()),
    path("api/v1/enrolments/redeem", api.Redeem.as_view()),
    path("api/v1/enrolments/<str:enrolment_id>", api.OneEnrolment.as_view()),
]
