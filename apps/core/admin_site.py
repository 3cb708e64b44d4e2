"""The admin as a whole: its name, who signs in, the order of its rooms, and what its first page shows."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.http import HttpRequest, HttpResponse

from apps.core import clock, overview
from apps.core.sign_in import Limited

ROOMS = ("tasks", "workflows", "jobs", "agents", "dsl", "webhooks", "orgs", "roles", "people", "auth")
"""The order of the first page and the side bar; what is not listed comes after, by name."""
PANELS = ("Tasks", "Sessions", "Jobs", "Agents", "Policies", "Webhooks")
FIRST = (
    "Task", "OrgQueue", "DeadLetter", "Schedule", "BulkAction", "Session", "Job", "Agent", "PolicyScript", "PolicyRun", "Endpoint", "Org",
)  # fmt: skip
"""Models that come first in their room."""


class SignInForm(Limited, AdminAuthenticationForm):
    """As Django's; who goes wrong too often has to wait."""


class PlatformSite(admin.AdminSite):
    site_header = site_title = "Job platform"
    index_title = "Operations"
    empty_value_display = "-"
    login_form = SignInForm
    site_url = "/"

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        rooms = super().get_app_list(request, app_label)
        for room in rooms:
            room["models"].sort(key=lambda model: _place(model["object_name"], FIRST))
        return sorted(rooms, key=lambda room: _place(room["app_label"], ROOMS))

    def index(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        panels = sorted(overview.shown(request, now=clock.now()), key=lambda panel: _place(panel[0], PANELS))
        return super().index(request, {"panels": panels, **(extra_context or {})})


def _place(name: str, order: tuple[str, ...]) -> int:
    """Sorting is stable: whatever is not in the order keeps its place after it."""
    return order.index(name) if name in order else len(order)

