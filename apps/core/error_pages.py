"""Error pages for people: one template, plain words, and the request's id to quote. Programs get JSON (`apps.core.http`)."""

from __future__ import annotations

from collections.abc import Mapping

from django.http import HttpResponse
from django.template.loader import render_to_string

WORDS: Mapping[int, tuple[str, str]] = {
    400: ("That cannot be understood", "Something about the address or the form is not as it should be. Go back and try again."),
    403: ("Not for you", "You are signed in, but may not see or do this. An administrator can give you the permission."),
    404: ("Nothing is here", "The address is mistyped, or what it names does not exist any more."),
    409: ("Not now", "What you wanted does not fit how things stand any more. Look again and decide anew."),
    429: ("Too fast", "There were too many requests. Wait a moment and try again."),
    500: ("That is our fault", "Something went wrong that should not. It is in the log, under the number below."),
    503: ("Out of reach", "A part of the platform is away for the moment. Nothing is lost; try again shortly."),
}


def page(
    status: int, *, request_id: str, title: str = "", advice: str = "", headers: Mapping[str, str] | None = None
) -> HttpResponse:  # fmt: skip
    """Rendered without a request: nothing of what just failed is needed for it."""
    words = WORDS.get(status) or WORDS[500 if status >= 500 else 400]
    context = {"status": status, "title": title or words[0], "advice": advice or words[1], "request_id": request_id}
    return HttpResponse(render_to_string("error.html", context), status=status, headers=headers)
