"""What all pages of the admin share."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.http import HttpRequest

from apps.core.sign_in import Limited

admin.site.site_header = "Job platform"
admin.site.site_title = "Job platform"
admin.site.index_title = "Operations"


class SignInForm(Limited, AdminAuthenticationForm):
    """As Django's; who goes wrong too often has to wait."""


admin.site.login_form = SignInForm


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that only the platform writes."""

    show_full_result_count = False
    list_per_page = 50
    actions: Any = None

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def actor(request: HttpRequest) -> str:
    """Who it was, for histories and audit rows."""
    return f"admin {request.user.get_username()}"
