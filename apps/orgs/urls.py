"""Paths of organizations. Included at the root."""

from __future__ import annotations

from django.urls import path

from apps.orgs import api

urlpatterns = [
    path("org-config/<str:org_id>/<str:key>", api.ConfigParameter.as_view(), name="org-config-parameter"),
    path("api/v1/org-config", api.ConfigTable.as_view(), name="org-config"),
    path("api/v1/org-config/<str:key>", api.ConfigDefault.as_view(), name="org-config-default"),
]
