"""What Django REST framework needs besides: event streams past its negotiation, and view sets."""

from __future__ import annotations

from typing import Any

from rest_framework.viewsets import ViewSetMixin

from apps.jobs.fitting import ASKED, before


def fit(cls: type) -> None:
    if "perform_content_negotiation" in vars(cls) or not hasattr(cls.perform_content_negotiation, "_streams"):
        _let_streams_pass(cls)
    if issubclass(cls, ViewSetMixin) and not hasattr(cls.dispatch, "_asks_for_job_id"):
        _ask_in_view_sets(cls)


def _let_streams_pass(cls: Any) -> None:
    """An event stream is no renderer's: DRF would answer 406 before the handler is asked."""
    negotiate = cls.perform_content_negotiation

    def perform_content_negotiation(self: Any, request: Any, force: bool = False) -> Any:
        streams = "job_id" in request.GET and "text/event-stream" in request.META.get("HTTP_ACCEPT", "")
        return negotiate(self, request, force or streams)

    perform_content_negotiation._streams = True  # type: ignore[attr-defined]
    cls.perform_content_negotiation = perform_content_negotiation


def _ask_in_view_sets(cls: Any) -> None:
    """A router puts the action of a route on the instance, in front of the class's `get`."""
    dispatch = cls.dispatch

    def dispatch_asking(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        for verb, what in {**ASKED, "head": "status"}.items():
            if (action := vars(self).get(verb)) is not None:
                handler = before(what)(lambda _self, *args, _action=action, **kwargs: _action(*args, **kwargs))
                setattr(self, verb, handler.__get__(self))
        return dispatch(self, request, *args, **kwargs)

    dispatch_asking._asks_for_job_id = True  # type: ignore[attr-defined]
    dispatch_asking.__dict__.update({name: value for name, value in vars(dispatch).items() if name not in vars(dispatch_asking)})
    cls.dispatch = dispatch_asking
