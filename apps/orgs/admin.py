"""Organizations and their configuration, API keys, and the audit trail.

A configuration value is checked against the table of keys and goes through the same store as the API's, so it is
versioned, audited and in force at once. A new key is shown on one page, once; nothing here can show it again.
"""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import router, transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html

from apps.core import admin_cells as cells
from apps.core import clock
from apps.core.admin import PageActions, ReadOnlyAdmin, actor, confirmed
from apps.core.errors import Invalid, PlatformError
from apps.orgs import keys
from apps.orgs.admin_filters import OrgFilter
from apps.orgs.audit import record
from apps.orgs.config_keys import TABLE, Key, WrongValue, check
from apps.orgs.config_store import OrgConfigProvider
from apps.orgs.models import ApiKey, Change, Org, OrgConfigParameter, Purge


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _from_text(key: Key, text: str) -> Any:
    """JSON when that fits the key, else the text itself: nobody types quotes around `auction`."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if key.rule.problem(value) and not key.rule.problem(text) else value


class ParameterForm(forms.ModelForm):
    key = forms.ChoiceField(choices=[("", "---------")] + [(key.name, key.name) for key in TABLE.values()])
    value = forms.CharField(
        widget=forms.TextInput(attrs={"class": "vTextField", "spellcheck": "false"}), help_text='as in JSON: null, true, 5, ["static"]'
    )

    class Meta:
        model = OrgConfigParameter
        fields = ("key", "value")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            key = TABLE.get(self.instance.key)
            self.fields["key"].disabled = True
            self.fields["key"].choices = [(self.instance.key, self.instance.key)]
            self.initial["value"] = "" if key and key.secret else _as_text(self.instance.value)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        key = TABLE.get(data.get("key", ""))
        if key and "value" in data:
            data["value"] = _from_text(key, data["value"])
            try:
                check(key.name, data["value"])
            except WrongValue as wrong:
                self.add_error("value", wrong.problems[0].message)
        return data


class ParameterInline(admin.TabularInline):
    model = OrgConfigParameter
    form = ParameterForm
    extra = 0
    fields = ("key", "value", "means", "version", "changed_at", "changed_by")
    readonly_fields = ("means", "version", "changed_at", "changed_by")
    verbose_name_plural = "configuration: what differs from the defaults"
    ordering = ("key",)

    @admin.display(description="meaning")
    def means(self, row: OrgConfigParameter) -> str:
        key = TABLE.get(row.key)
        if key is None:
            return "a key of another release; it has no effect" if row.key else "-"
        return format_html("{}<br><small>{}; default {}</small>", key.meaning, key.rule.type, _as_text(key.default))


@admin.register(Org)
class OrgAdmin(admin.ModelAdmin):
    list_display = ("org_id", "name", "is_active", "keys_open", "parameters_set", "config_version", "created_at")
    list_filter = ("is_active",)
    search_fields = ("org_id", "name")
    ordering = ("org_id",)
    inlines = (ParameterInline,)
    readonly_fields = ("created_at", "config_version", "all_keys")
    fieldsets = (
        (None, {"fields": ("org_id", "name", "is_active", "created_at", "config_version")}),
        ("All configuration keys and their defaults", {"classes": ("collapse",), "fields": ("all_keys",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Org]:
        rows = super().get_queryset(request)
        open_keys = Count("api_keys", filter=Q(api_keys__revoked_at=None), distinct=True)
        return rows.annotate(keys_open_count=open_keys, parameters_count=Count("parameters", distinct=True))

    def get_readonly_fields(self, request: HttpRequest, obj: Org | None = None) -> tuple[str, ...]:
        return self.readonly_fields if obj is None else ("org_id", *self.readonly_fields)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # an org that is over is made inactive; then it may be purged, which is more than a row (apps.retention)

    def has_change_permission(self, request: HttpRequest, obj: Org | None = None) -> bool:
        if not hasattr(request, "being_purged"):  # asked about each row of a list
            request.being_purged = set(Purge.objects.values_list("pk", flat=True))  # type: ignore[attr-defined]
        return (obj is None or obj.pk not in request.being_purged) and super().has_change_permission(request, obj)

    @admin.display(description="keys not revoked", ordering="keys_open_count")
    def keys_open(self, org: Org) -> int:
        return org.keys_open_count

    @admin.display(description="parameters set", ordering="parameters_count")
    def parameters_set(self, org: Org) -> int:
        return org.parameters_count

    @admin.display(description="")
    def all_keys(self, org: Org) -> str:
        rows = ((key.name, key.meaning, key.rule.type, format_html("<code>{}</code>", _as_text(key.default))) for key in TABLE.values())
        return cells.table(("key", "meaning", "type", "default"), rows)

    def save_model(self, request: HttpRequest, obj: Org, form: Any, change: bool) -> None:
        old = None if not change else _org_facts(Org.objects.get(pk=obj.pk))
        super().save_model(request, obj, form, change)
        keys.ring.forget_all()
        if old is not None and old["is_active"] != obj.is_active:
            # After the commit: until then nobody may tell NATS.
            home = router.db_for_write(Org)
            transaction.on_commit(lambda: self._switched(request, obj), using=home)
        if old != _org_facts(obj):
            kind = Change.Kind.ORG
            record(org_id=obj.pk, kind=kind, key=obj.pk, old=old, new=_org_facts(obj), by=actor(request), at=clock.now())

    def _switched(self, request: HttpRequest, org: Org) -> None:
        if not keys.org_switched(org.pk, now=clock.now()):
            self.message_user(request, "NATS could not be told yet; its agents stay as they are until upkeep reaches it.", messages.WARNING)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """The inline of parameters: each goes through the store."""
        store, who, now = OrgConfigProvider(), actor(request), clock.now()
        formset.new_objects, formset.changed_objects, formset.deleted_objects = [], [], []
        for each in formset.forms:
            gone, key = each in formset.deleted_forms, each.cleaned_data.get("key")
            if not each.has_changed() or not key or (gone and each.instance.pk is None):
                continue
            try:
                if gone:
                    store.unset(form.instance.pk, key, by=who, now=now)
                else:
                    store.set(form.instance.pk, key, each.cleaned_data["value"], by=who, now=now)
            except PlatformError as error:
                self.message_user(request, f"{key}: {error.sentence}", messages.ERROR)
            else:
                (formset.deleted_objects if gone else formset.new_objects).append(each.instance)


def _org_facts(org: Org) -> dict[str, Any]:
    return {"name": org.name, "is_active": org.is_active}


class KeyForm(forms.ModelForm):
    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.instance._state.adding:
            return data
        try:
            keys.check(
                role=data.get("role", ""), subject_id=data.get("subject_id", ""), expires_at=data.get("expires_at"), now=clock.now()
            )
        except Invalid as invalid:
            for problem in invalid.problems:
                if problem.field in self.fields and problem.field not in self.errors:
                    self.add_error(problem.field, problem.message)
        return data


@admin.register(ApiKey)
class ApiKeyAdmin(PageActions):
    form = KeyForm
    list_display = ("key_id", "org", "role", "subject_id", "name", "state", "created_at", "expires_at")
    list_filter = ("role", "org", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("key_id", "subject_id", "name", "org__org_id")
    search_help_text = "key id, subject, name or organization"
    ordering = ("-created_at",)
    list_select_related = ("org",)
    autocomplete_fields = ("org",)
    actions = ("revoke",)
    changeable = ("name", "rate_limit_per_minute", "rate_limit_burst")

    @admin.display(description="state")
    def state(self, key: ApiKey) -> str:
        over = key.expires_at and key.expires_at <= clock.now()
        return cells.status("revoked" if key.revoked_at else "expired" if over else "open")

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        asked = ("org", "role", "subject_id", "name", "expires_at", "rate_limit_per_minute", "rate_limit_burst")
        return asked if obj is None else ("key_id", "state", *asked, "created_at", "revoked_at", "nats_public_key")

    def get_readonly_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return () if obj is None else tuple(name for name in self.get_fields(request, obj) if name not in self.changeable)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # a revoked key is remembered: NATS must go on knowing it

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if change:
            limits = {name: getattr(obj, name) for name in self.changeable}
            keys.change(obj.pk, **limits, by=actor(request), now=clock.now())
            return
        named = ("org", "role", "subject_id", "name", "expires_at", "rate_limit_per_minute", "rate_limit_burst")
        asked = {name: getattr(obj, name) for name in named}
        made = keys.create(**asked, by=actor(request), now=clock.now())
        obj.pk, obj._state.adding = made.row.pk, False
        request.printed_key = made.printed  # type: ignore[attr-defined]  # for this response and nothing else

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: Any = None) -> HttpResponse:
        context = {"title": "New API key", "opts": self.opts, "key": obj, "printed": request.printed_key}
        whole = {**self.admin_site.each_context(request), **context}
        return TemplateResponse(request, "admin/orgs/apikey/made.html", whole)

    def fits(self, row: ApiKey, name: str) -> bool:
        return row.revoked_at is None

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orgs.change_apikey")

    @admin.action(description="Revoke", permissions=["revoke"])
    @confirmed("These keys will open nothing any more, and cannot be opened again: whoever uses them needs new ones.")
    def revoke(self, request: HttpRequest, chosen: QuerySet[ApiKey]) -> None:
        done = [keys.revoke(key_id, by=actor(request), now=clock.now()) for key_id in chosen.values_list("pk", flat=True)]
        self.message_user(request, f"{len(done)} revoked: they open nothing any more, within five seconds everywhere.", messages.SUCCESS)
        if not all(revoked.told_nats for revoked in done):
            self.message_user(request, "NATS could not be told yet; agents stay connected until upkeep reaches it.", messages.WARNING)


@admin.register(Change)
class ChangeAdmin(ReadOnlyAdmin):
    list_display = ("at", "org_id", "kind", "key", "old", "new", "by")
    list_filter = ("kind", OrgFilter, "at")
    nothing_yet = "Whatever is changed by whomever is written down here."
    search_fields = ("=org_id", "key", "by")
    search_help_text = "an organization, what was changed, or who did it"
    fields = ("at", "org_id", "kind", "key", "old", "new", "by", "request_id")
    ordering = ("-id",)


cells.leads("org_id", lambda row: cells.link("orgs_org", row.org_id), title="org")
