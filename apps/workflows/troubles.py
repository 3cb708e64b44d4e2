"""What an operator should read in the log without having asked for it: sessions that failed, in whole or in part."""

from __future__ import annotations

import logging

from apps.workflows.events import SessionEnded
from apps.workflows.states import SessionStatus

log = logging.getLogger(__name__)


def ended(news: SessionEnded) -> None:
    if news.status in (SessionStatus.FAILED, SessionStatus.TIMED_OUT) or news.partial:
        facts = {"org": news.org_id, "session": news.key, "run": news.run, "partial": news.partial, "reason": news.reason}
        log.warning(f"session.{news.status}", extra=facts)
