"""Paths of policy scripts. Included at the root. A script id may hold slashes, so the verbs stand first in the table."""

from __future__ import annotations

from django.urls import path

from apps.dsl import api, scripts

urlpatterns = [
    path("api/v1/policies", api.Policies.as_view(), name="policies"),
    path("api/v1/policies/<path:script_id>/activate", api.PolicyStatus.as_view(change=scripts.activate), name="policy-activate"),
    path("api/v1/policies/<path:script_id>/retire", api.PolicyStatus.as_view(change=scripts.retire), name="policy-retire"),
    path("api/v1/policies/<path:script_id>", api.Policy.as_view(), name="policy"),
]
