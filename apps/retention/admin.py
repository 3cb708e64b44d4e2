"""Purging an organization, from its place among the organizations: an action, and a page that says what will be gone."""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from apps.core import background, clock
from apps.core.admin import actor
from apps.core.errors import PlatformError
from apps.orgs.admin import OrgAdmin
from apps.orgs.models import Org, Purge
from apps.retention import purge
from jobplatform.queues import Work

admin.site.unregister(Org)


@admin.register(Org)
class PurgingOrgAdmin(OrgAdmin):
    actions = ("purge",)

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        return (*self.list_display, "being_purged") if Purge.objects.exists() else self.list_display

    @admin.display(description="being purged")
    def being_purged(self, org: Org) -> str:
        row = Purge.objects.filter(pk=org.pk).first()
        return f"{sum(row.rows.values())} rows so far, asked by {row.by}" if row else "-"

    def has_purge_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("orgs.delete_org")

    @admin.action(description="Purge with everything of it…", permissions=["purge"])
    def purge(self, request: HttpRequest, chosen: QuerySet[Org]) -> HttpResponse | None:
        org = chosen.first()
        if chosen.count() != 1 or org is None:
            self.message_user(request, "One organization at a time.", messages.ERROR)
            return None
        if org.is_active:
            self.message_user(request, f"{org.pk}: {purge.StillActive.sentence}", messages.ERROR)
            return None
        typed = request.POST.get("typed")
        if typed == org.pk:
            return self._begin(request, org)
        rows = [(apps.get_model(label)._meta.verbose_name_plural, number) for label, number in purge.count(org.pk).items() if number]
        total = sum(number for _, number in rows)
        context = {"title": f"Purge {org.pk}", "opts": self.opts, "org": org, "rows": sorted(rows), "total": total}
        context["wrong"] = typed is not None
        return TemplateResponse(request, "admin/retention/purge.html", {**self.admin_site.each_context(request), **context})

    def _begin(self, request: HttpRequest, org: Org) -> None:
        try:
            purge.begin(org.pk, by=actor(request), now=clock.now())
        except PlatformError as error:
            self.message_user(request, f"{org.pk}: {error.sentence}", messages.ERROR)
            return
        background.send(Work.PURGE, org_id=org.pk)
        self.message_user(request, f"The purge of {org.pk} has begun; a line of the audit trail says when it is done.", messages.SUCCESS)
