"""Paths of roles and subjects. Included at the root."""

from __future__ import annotations

from django.urls import path

from apps.roles import api

urlpatterns = [
    path("role-group", api.RoleGroupQuery.as_view(), name="role-group"),
    path("subject-roles", api.SubjectRolesQuery.as_view(), name="subject-roles"),
    path("api/v1/roles", api.RoleList.as_view(), name="roles"),
    path("api/v1/roles/<str:role_id>", api.RoleDetail.as_view(), name="role"),
    path("api/v1/subjects", api.SubjectList.as_view(), name="subjects"),
    path("api/v1/subjects/<str:subject_id>", api.SubjectDetail.as_view(), name="subject"),
]
