"""What all pages of the admin share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

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


class LiveAdmin(ReadOnlyAdmin):
    """Rows whose page follows them while somebody looks (`live.html` beside its `change_form.html`), with verbs to steer them."""

    verbs: tuple[str, ...] = ()
    """Those that may be posted; `verbs_of` says which of them a row's page offers."""

    def live(self, row: Any) -> dict[str, Any]:
        """What `live.html` shows."""
        raise NotImplementedError

    def verbs_of(self, row: Any) -> Sequence[Any]:
        raise NotImplementedError

    def steer_one(self, request: HttpRequest, row: Any, verb: str) -> str:
        """Do it, or tell the user why not; the key of the row to look at then."""
        raise NotImplementedError

    def has_steer_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        row = self.get_object(request, admin.utils.unquote(object_id))
        more = {"verbs": self.verbs_of(row) if self.has_steer_permission(request) else (), **self.live(row)} if row else {}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **more})

    def get_urls(self) -> list[Any]:
        wrap, name = self.admin_site.admin_view, f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path("<path:object_id>/live/", wrap(self._live_page), name=f"{name}_live"),
            path("<path:object_id>/steer/", wrap(self._steer_page), name=f"{name}_steer"),
            *super().get_urls(),
        ]

    def _live_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asked for again and again while somebody looks."""
        row = self._row(request, object_id)
        return TemplateResponse(request, f"admin/{self.opts.app_label}/{self.opts.model_name}/live.html", self.live(row))

    def _steer_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row, verb = self._row(request, object_id), request.POST.get("verb", "")
        if request.method != "POST" or verb not in self.verbs or not self.has_steer_permission(request):
            raise PermissionDenied
        shown = admin.utils.quote(self.steer_one(request, row, verb))
        return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[shown]))

    def _row(self, request: HttpRequest, object_id: str) -> Any:
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, admin.utils.unquote(object_id))
        if row is None:
            raise Http404
        return row


def actor(request: HttpRequest) -> str:
    """Who it was, for histories and audit rows."""
    return f"admin {request.user.get_username()}"
