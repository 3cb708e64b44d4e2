"""Paths of the context documents."""

from __future__ import annotations

from django.urls import path

from apps.workflows.api import context as api

urlpatterns = [
    path("api/v1/context", api.Collections.as_view()),
    path("api/v1/context/<str:collection>", api.Collection.as_view()),
    path("api/v1/context/<str:collection>/query", api.Query.as_view()),
    path("api/v1/context/<str:collection>/search", api.Search.as_view()),
    path("api/v1/context/<str:collection>/documents/<str:key>", api.One.as_view()),
]
