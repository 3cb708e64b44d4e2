"""What all pages of the admin share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ActionForm
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from apps.core import admin_cells

CHOSEN_SHOWN = 20


class PageActions(admin.ModelAdmin):
    """The actions of the list stand on the page of each row, too, as buttons; after one the page is shown again."""

    def fits(self, row: Any, name: str) -> bool:
        """Whether that action makes sense for the row as it is now; its page leaves the others out."""
        return True

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        every = [(name, text) for _, name, text in self.get_actions(request).values() if name != "delete_selected"]
        actions = [(name, text) for name, text in every if row is not None and self.fits(row, name)]
        typed = self.action_form(auto_id="id_act_%s")
        more = {
            "page_actions": actions,
            "page_fields": [typed[name] for name in typed.fields if name not in ActionForm.base_fields],
            "page_key": unquote(object_id),
        }
        return super().change_view(request, object_id, form_url, {**more, **(extra_context or {})})

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        if request.method == "POST" and response.status_code == 302 and request.POST.get("page_key"):
            return HttpResponseRedirect(self._page_of(request.POST["page_key"]))
        return response

    def _page_of(self, key: Any) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[quote(key)])


class ReadOnlyAdmin(PageActions):
    """Rows that only the platform writes. States, JSON and ids of other things are shown as `admin_cells` says."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # one count of the whole table for each choice
    nothing_yet = ""
    """What an empty list says: where its rows would come from."""
    list_per_page = 50
    actions: Any = None

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_list_display(self, request: HttpRequest) -> Sequence[Any]:
        names = super().get_list_display(request)
        own = self.get_list_display_links(request, names) or ()  # they lead to the row itself
        return [name if name in own else admin_cells.shown(self.model, name, in_list=True) for name in names]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return [(title, {**options, "fields": self._shown(options["fields"])}) for title, options in super().get_fieldsets(request, obj)]

    def _shown(self, names: Sequence[Any]) -> list[Any]:
        return [
            self._shown(name) if isinstance(name, (list, tuple)) else admin_cells.shown(self.model, name, in_list=False) for name in names
        ]


class LiveAdmin(ReadOnlyAdmin):
    """Rows whose page follows them while somebody looks (`live.html` of the model's templates), with verbs to steer them."""

    change_form_template = "admin/core/live_change_form.html"
    verbs: tuple[str, ...] = ()
    """Those that may be posted; `verbs_of` says which of them a row's page offers."""
    severe: dict[str, str] = {}
    """Verbs that are asked about first → the question."""
    takes_reason = False

    def live(self, row: Any) -> dict[str, Any]:
        """What `live.html` shows."""
        raise NotImplementedError

    def verbs_of(self, row: Any) -> Sequence[tuple[str, str]]:
        """(verb, what its button says)"""
        raise NotImplementedError

    def steer_one(self, request: HttpRequest, row: Any, verb: str) -> str:
        """Do it, or tell the user why not; the key of the row to look at then."""
        raise NotImplementedError

    def has_steer_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **(self._about(request, row) if row else {})})

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        return [
            path("<path:object_id>/live/", wrap(self._live_page), name=f"{self._pages}_live"),
            path("<path:object_id>/steer/", wrap(self._steer_page), name=f"{self._pages}_steer"),
            *super().get_urls(),
        ]

    @property
    def _pages(self) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}"

    @property
    def _live_template(self) -> str:
        return f"admin/{self.opts.app_label}/{self.opts.model_name}/live.html"

    def _url(self, page: str, key: Any) -> str:
        return reverse(f"admin:{self._pages}_{page}", args=[quote(key)])

    def _about(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        return {
            "verbs": self.verbs_of(row) if self.has_steer_permission(request) else (),
            "page_actions": (),
            "takes_reason": self.takes_reason,
            "steer_url": self._url("steer", row.pk),
            "live_url": self._url("live", row.pk),
            "live_template": self._live_template,
            **self.live(row),
        }

    def _live_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Asked for again and again while somebody looks."""
        return TemplateResponse(request, self._live_template, self.live(self._row(request, object_id)))

    def _steer_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row, verb = self._row(request, object_id), request.POST.get("verb", "")
        if request.method != "POST" or verb not in self.verbs or not self.has_steer_permission(request):
            raise PermissionDenied
        if verb in self.severe and not is_confirmed(request):
            carried = [(name, request.POST.get(name, "")) for name in ("verb", "reason")]
            return ask(self, request, self.severe[verb], [row], verb=verb, carried=carried, back=self._url("change", row.pk))
        return HttpResponseRedirect(self._url("change", self.steer_one(request, row, verb)))

    def _row(self, request: HttpRequest, object_id: str) -> Any:
        if not self.has_view_permission(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        return row


# ---- what cannot be undone is asked about first -----------------------------------------------------------


def confirmed(question: str) -> Callable[[Any], Any]:
    """Below `@admin.action`, an action of a list that is done when it has been asked for twice: first a page shows what was chosen."""

    def wrap(act: Any) -> Any:
        @wraps(act)
        def asked(self: PageActions, request: HttpRequest, chosen: QuerySet[Any]) -> Any:
            if is_confirmed(request):
                return act(self, request, chosen)
            count = chosen.count()
            if not count:
                return None
            carried = [(name, value) for name, values in request.POST.lists() for value in values if name not in _OURS]
            verb = request.POST.get("action", act.__name__)
            carried += [("action", verb), ("index", "0")]
            rows, key = list(chosen[:CHOSEN_SHOWN]), request.POST.get("page_key")
            back = self._page_of(key) if key else request.get_full_path()
            return ask(self, request, question, rows, verb=verb, carried=carried, back=back, more=count - len(rows))

        return asked

    return wrap


_OURS = ("csrfmiddlewaretoken", "confirmed", "action", "index")


def is_confirmed(request: HttpRequest) -> bool:
    return request.POST.get("confirmed") == "yes"


def ask(
    page: PageActions, request: HttpRequest, question: str, rows: Sequence[Any], *, verb: str, carried: Any, back: str, more: int = 0
) -> HttpResponse:
    """The page that asks; `carried` are the (name, value) pairs that are posted again."""
    count, said = len(rows) + more, verb.replace("_", " ").capitalize()
    what = f"{count} {page.opts.verbose_name_plural}" if count > 1 else page.opts.verbose_name
    context = {
        **page.admin_site.each_context(request), "opts": page.opts, "title": f"{said}: {what}", "verb": said, "question": question,
        "carried": carried, "rows": [{"name": str(row), "url": page._page_of(row.pk)} for row in rows],
        "more": more, "back": back, "action": request.get_full_path(),
    }  # fmt: skip
    return TemplateResponse(request, "admin/core/confirm.html", context)


def actor(request: HttpRequest) -> str:
    """Who it was, for histories and audit rows."""
    return f"admin {request.user.get_username()}"
