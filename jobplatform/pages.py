"""Pages that belong to no room: the front door, and what people see of errors."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from apps.core.error_pages import page
from apps.core.http import request_id


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Says where to go; asks nobody who they are and tells nothing."""
    return render(request, "home.html")


def bad_request(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return page(400, request_id=request_id.get())


def forbidden(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return page(403, request_id=request_id.get())


def not_found(request: HttpRequest, exception: Any = None) -> HttpResponse:
    return page(404, request_id=request_id.get())


def crashed(request: HttpRequest) -> HttpResponse:
    return page(500, request_id=request_id.get())


def stale_form(request: HttpRequest, reason: str = "") -> HttpResponse:
    """CSRF: a form that was open while somebody signed out and in again, or one that came from elsewhere."""
    advice = "The form was not sent from here, or you signed in again since it was opened. Go back, reload it and send it again."
    return page(403, request_id=request_id.get(), title="That form is too old", advice=advice)
