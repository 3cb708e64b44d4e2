"""Roles and subjects for people. Every save is on the audit trail, as the document the API would show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join

from apps.core import clock
from apps.core.admin import actor
from apps.messaging import subjects
from apps.orgs.audit import record
from apps.orgs.models import Change
from apps.roles import directory
from apps.roles.documents import role_json, subject_json
from apps.roles.models import Role, RoleGroup, Subject, SubjectRole
from apps.roles.rules import id_problem


class _AuditedAdmin(admin.ModelAdmin):
    """Ids and the org stay what they are once made."""

    kind: str
    id_field: str
    document: Callable[[Any], dict[str, Any]]
    autocomplete_fields = ("org",)
    list_select_related = ("org",)
    list_per_page = 50

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return () if obj is None else ("org", self.id_field)

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return self.autocomplete_fields

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        request.was = self._now(obj) if change else None  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        self._record(request, form.instance, request.was, self._now(form.instance))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self._record(request, obj, self._now(obj), None)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for obj in queryset:
            self.delete_model(request, obj)

    def _now(self, obj: Any) -> dict[str, Any]:
        return type(self).document(type(obj).objects.get(pk=obj.pk))

    def _record(self, request: HttpRequest, obj: Any, old: Any, new: Any) -> None:
        if old != new:
            key = getattr(obj, self.id_field)
            directory.changed(obj.org_id)
            record(org_id=obj.org_id, kind=self.kind, key=key, old=old, new=new, by=actor(request), at=clock.now())


class GroupInline(admin.TabularInline):
    model = RoleGroup
    extra = 0


@admin.register(Role)
class RoleAdmin(_AuditedAdmin):
    kind, id_field, document = Change.Kind.ROLE, "role_id", staticmethod(role_json)
    list_display = ("role_id", "org", "role_type", "space", "held_by")
    list_filter = ("org", "role_type")
    search_fields = ("role_id", "role_type", "org__org_id")
    ordering = ("org", "role_id")
    fields = ("org", "role_id", "role_type", "job_space_id", "metadata")
    inlines = (GroupInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Role]:
        return super().get_queryset(request).annotate(holder_count=Count("holders__subject", distinct=True))

    @admin.display(description="job space", ordering="job_space_id")
    def space(self, role: Role) -> str:
        return role.job_space_id or "every"

    @admin.display(description="held by", ordering="holder_count")
    def held_by(self, role: Role) -> int:
        return role.holder_count


class Words(forms.CharField):
    """A list of words, typed with commas between them."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        words = [word.strip() for word in super().clean(value).split(",")]
        found = list(dict.fromkeys(word for word in words if word))
        for word in found:
            problem = id_problem(word, most=64)
            if problem:
                raise forms.ValidationError(f"“{word[:64]}” {problem}.")
        return found

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


class SubjectForm(forms.ModelForm):
    capabilities = Words(
        required=False, help_text="words with commas between them: python, prose", widget=admin.widgets.AdminTextInputWidget
    )

    class Meta:
        model = Subject
        fields = ("org", "subject_id", "subject_type", "name", "capabilities", "is_active", "metadata")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        org, subject_id = data.get("org"), data.get("subject_id")
        if org and subject_id:
            try:
                subjects.agent_token(org.pk, subject_id)
            except ValueError as error:
                self.add_error("subject_id", str(error))
        return data


class HeldInline(admin.TabularInline):
    model = SubjectRole
    extra = 0
    autocomplete_fields = ("role",)


@admin.register(Subject)
class SubjectAdmin(_AuditedAdmin):
    kind, id_field, document = Change.Kind.SUBJECT, "subject_id", staticmethod(subject_json)
    form = SubjectForm
    list_display = ("subject_id", "org", "subject_type", "name", "can", "holds", "is_active")
    list_filter = ("is_active", "subject_type", "org")
    search_fields = ("subject_id", "name", "org__org_id")
    ordering = ("org", "subject_id")
    fields = ("org", "subject_id", "subject_type", "name", "capabilities", "is_active", "metadata")
    inlines = (HeldInline,)
    actions = ("activate", "deactivate")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Subject]:
        return super().get_queryset(request).prefetch_related("roles_held__role")

    @admin.display(description="capabilities")
    def can(self, subject: Subject) -> str:
        return ", ".join(subject.capabilities) or "-"

    @admin.display(description="roles")
    def holds(self, subject: Subject) -> str:
        held = [(row.role.role_id, f" in {row.job_space_id}" if row.job_space_id else "") for row in subject.roles_held.all()]
        return format_html_join(", ", "{}{}", sorted(held)) or "-"

    @admin.action(description="Make active", permissions=["change"])
    def activate(self, request: HttpRequest, chosen: QuerySet[Subject]) -> None:
        self._switch(request, chosen, True)

    @admin.action(description="Make inactive (never chosen)", permissions=["change"])
    def deactivate(self, request: HttpRequest, chosen: QuerySet[Subject]) -> None:
        self._switch(request, chosen, False)

    def _switch(self, request: HttpRequest, chosen: QuerySet[Subject], is_active: bool) -> None:
        switched = list(chosen.exclude(is_active=is_active))
        for subject in switched:
            old = subject_json(subject)
            Subject.objects.filter(pk=subject.pk).update(is_active=is_active)
            self._record(request, subject, old, {**old, "is_active": is_active})
        self.message_user(request, f"{len(switched)} made {'active' if is_active else 'inactive'}.", messages.SUCCESS)
