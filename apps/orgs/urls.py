"""Paths of organizations. Included at the root."""

from __future__ import annotations

from django.urls import path

from apps.orgs import api, audit_api

urlpatterns = [
    path("org-config/<str:org_id>/<str:key>", api.ConfigParameter.as_view(), name="org-config-parameter"),
    path("api/v1/org-config", api.ConfigTable.as_view(), name="org-config"),
    path("api/v1/org-config/<str:key>", api.ConfigDefault.as_view(), name="org-config-default"),
    path("api/v1/audit", audit_api.Audit.as_view(), name="audit"),
    path("api/v1/audit/export", audit_api.AuditExport.as_view(), name="audit-export"),
]
