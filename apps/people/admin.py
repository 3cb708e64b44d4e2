"""Who signs in as whom. On the audit trail like all else about subjects."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from apps.core import clock
from apps.core.admin import actor
from apps.orgs.audit import record
from apps.orgs.models import Change
from apps.people.models import Login


@admin.register(Login)
class LoginAdmin(admin.ModelAdmin):
    list_display = ("user", "subject", "org")
    list_select_related = ("user", "subject", "subject__org")
    search_fields = ("user__username", "subject__subject_id")
    autocomplete_fields = ("user", "subject")
    list_per_page = 50

    @admin.display(description="organization", ordering="subject__org_id")
    def org(self, login: Login) -> str:
        return login.subject.org_id

    def save_model(self, request: HttpRequest, obj: Login, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        self._record(request, obj, {"user": obj.user.get_username()})

    def delete_model(self, request: HttpRequest, obj: Login) -> None:
        self._record(request, obj, None)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for obj in queryset:
            self.delete_model(request, obj)

    def _record(self, request: HttpRequest, obj: Login, new: Any) -> None:
        org_id, key = obj.subject.org_id, obj.subject.subject_id
        record(org_id=org_id, kind=Change.Kind.SUBJECT, key=key, old=None, new={"sign_in": new}, by=actor(request), at=clock.now())
