"""The book of endpoints: made, changed, rotated, deleted, replayed. Every change is in the audit trail; no secret is."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import router, transaction
from django.db.models import QuerySet

from apps.core import ids
from apps.core.errors import Conflict, Invalid, Missing, Problem
from apps.core.outbound import UnsafeUrl, check_url
from apps.core.redis import RedisDown
from apps.orgs import audit
from apps.orgs.config_store import OrgConfigProvider
from apps.orgs.models import Change
from apps.webhooks import derive, event_types, signing
from apps.webhooks.callbacks import answering, origin
from apps.webhooks.event_types import ALL, EVENTS, floor
from apps.webhooks.models import FAILED, PENDING, Attempt, Delivery, Endpoint
from apps.webhooks.order import Order
from apps.webhooks.schedule import LIFE
from apps.webhooks.sources import sources

ENDPOINTS_MAX, FOR_JOBS_MAX = 20, 100
DESCRIPTION_LENGTH = 200
OVERLAP_DEFAULT, OVERLAP_MAX = timedelta(days=1), timedelta(days=7)
REPLAY_MAX = timedelta(days=31)


class NoSuchEndpoint(Missing):
    sentence = "There is no such webhook endpoint."


class NoSuchDelivery(Missing):
    sentence = "There is no such delivery."


class TooManyEndpoints(Conflict):
    code, sentence = "too_many_endpoints", f"An org may have {ENDPOINTS_MAX} webhook endpoints."


class TooManyJobUrls(Conflict):
    code, sentence = (
        "too_many_endpoints",
        f"Jobs of an org may name {FOR_JOBS_MAX} servers in their webhook URLs; delete endpoints no longer needed.",
    )


class StillAwaited(Conflict):
    code, sentence = (
        "endpoint_awaited",
        "Jobs that have not ended name this endpoint to be told; delete it when they have, or disable it now.",
    )


class EndpointDisabled(Conflict):
    code, sentence = "endpoint_disabled", "The endpoint is disabled; enable it first."


@dataclass(frozen=True, kw_only=True)
class WebhookBook:
    """Of one org; "" is of jobs that belong to none. `by` is for the audit trail."""

    org_id: str
    by: str
    now: datetime

    def all(self) -> list[Endpoint]:
        return list(self._rows().order_by("endpoint_id"))

    def get(self, endpoint_id: str) -> Endpoint:
        """Another org's is as missing as one that never was."""
        row = self._rows().filter(pk=endpoint_id[:64]).first()
        if row is None:
            raise NoSuchEndpoint()
        return row

    def create(self, wish: dict[str, Any]) -> tuple[Endpoint, str]:
        """The endpoint and its secret, which is shown this once. Raises Invalid or TooManyEndpoints."""
        values = self.check(wish, new=True)
        row = self._new(f"wh_{secrets.token_hex(8)}", values)
        with self._atomic():
            if self._rows().filter(for_jobs=False).count() >= ENDPOINTS_MAX:
                raise TooManyEndpoints()
            row.save(force_insert=True)
            self._note(row, None, _facts(row))
        derive.forget()
        return row, signing.secret(row, row.secret_salt)

    def for_job(self, url: str) -> None:
        """See to it that somebody answers for a URL that a job names (`callbacks`): where the org has no endpoint with it, one is
        made for its server, told of such jobs alone; rotating shows its secret. Raises UnsafeUrl (of `webhook_url`) or
        TooManyJobUrls."""
        check_url(url, allow=outbound_allow(self.org_id), field="webhook_url")
        home = origin(url)
        if answering(self._rows().filter(url__in=[url, home]), url):
            return
        # Its id follows from what it is for: of two jobs that name it at the same moment one makes it.
        pk = f"wh_{hashlib.sha256(f'{self.org_id} {home}'.encode()).hexdigest()[:16]}"
        row = self._new(pk, {"url": home, "events": [], "description": "named by jobs", "enabled": True, "for_jobs": True})
        with self._atomic():
            if self._rows().filter(for_jobs=True).count() >= FOR_JOBS_MAX:
                raise TooManyJobUrls()
            values = {field.attname: getattr(row, field.attname) for field in Endpoint._meta.concrete_fields}
            if Endpoint.objects.get_or_create(pk=pk, defaults=values)[1]:
                self._note(row, None, _facts(row))
        derive.forget()

    def change(self, endpoint_id: str, wish: dict[str, Any]) -> Endpoint:
        row = self.get(endpoint_id)
        old, values = _facts(row), self.check(wish, new=False)
        self.check_url_of(row, values.get("url", row.url))
        if values.get("enabled") and not row.enabled:
            # What moved meanwhile was not for it; `replay` with a time brings it after all.
            values |= {"disabled_because": "", "failing_since": None, "from_transition": floor(self.now)}
        elif values.get("enabled") is False and row.enabled:
            values["disabled_because"] = f"by {self.by}"[:255]
        for name, value in values.items():
            setattr(row, name, value)
        row.updated_at = self.now
        with self._atomic():
            row.save(update_fields=[*values, "updated_at"])
            if old != _facts(row):
                self._note(row, old, _facts(row))
        derive.forget()
        self._due(row)
        return row

    def rotate(self, endpoint_id: str, overlap: timedelta = OVERLAP_DEFAULT) -> tuple[Endpoint, str]:
        """A new secret; until `overlap` is over the old one signs, too."""
        row = self.get(endpoint_id)
        row.previous_salt, row.secret_salt = (row.secret_salt if overlap else ""), signing.new_salt()
        row.previous_until, row.updated_at = (self.now + overlap if overlap else None), self.now
        with self._atomic():
            row.save(update_fields=["previous_salt", "secret_salt", "previous_until", "updated_at"])
            self._note(row, {"rotated": False}, {"rotated": True, "overlap_s": overlap.total_seconds()})
        return row, signing.secret(row, row.secret_salt)

    def delete(self, endpoint_id: str) -> None:
        """With everything that was, or was to be, sent to it. Raises StillAwaited."""
        row = self.get(endpoint_id)
        self.check_awaited(row)
        facts, pk = _facts(row), row.pk
        with self._atomic():
            row.delete()
            self._note(Endpoint(endpoint_id=pk), facts, None)
        derive.forget()
        for model in (Delivery, Attempt):
            model.objects.filter(endpoint_id=pk).delete()

    def check_awaited(self, row: Endpoint) -> None:
        """Jobs that have not ended may have named it, and nobody else would tell their ends. One that is disabled tells nobody."""
        others = list(self._rows()) if row.enabled else []
        if any(answering(others, url) == row for source in sources() for url in source.awaited(self.org_id)):
            raise StillAwaited(endpoint_id=row.pk)

    def ping(self, endpoint_id: str) -> Delivery:
        row = self._enabled(endpoint_id)
        text = event_types.body(event_types.PING, self.now, {"org_id": self.org_id, "endpoint_id": row.pk, "by": self.by})
        made = derive.delivery(row, ids.time_ordered(), event_types.PING, text, self.now)
        made.save(force_insert=True)
        self._due(row)
        return made

    def delivery(self, endpoint_id: str, delivery_id: str) -> Delivery:
        row = Delivery.objects.filter(pk=delivery_id[:64], endpoint_id=self.get(endpoint_id).pk).first()
        if row is None:
            raise NoSuchDelivery()
        return row

    def replay(self, endpoint_id: str, delivery_id: str) -> Delivery:
        """Send it again, whatever became of it, from the beginning of the schedule. The receiver knows it by its id."""
        row, made = self._enabled(endpoint_id), self.delivery(endpoint_id, delivery_id)
        Delivery.objects.filter(pk=made.pk).update(**_again(self.now))
        self._note(row, None, {"replayed": made.pk})
        self._due(row)
        return self.delivery(endpoint_id, delivery_id)

    def replay_since(self, endpoint_id: str, since: datetime, *, missed: bool) -> int:
        """Send all that failed since then again; how many they are. `missed`: also look for what moved since then and was
        never meant for it, because it was disabled, or asked for other events."""
        row = self._enabled(endpoint_id)
        low, high = derive.span(row.pk, floor(since))
        count = Delivery.objects.filter(pk__gte=low, pk__lt=high, state=FAILED).update(**_again(self.now))
        if missed:
            Endpoint.objects.filter(pk=row.pk).update(catch_up_from=floor(since))
        self._note(row, None, {"replayed_since": since.isoformat(), "missed_too": missed, "failed": count})
        self._due(row)
        return count

    def check(self, wish: dict[str, Any], *, new: bool) -> dict[str, Any]:
        """The wish as field values. Raises Invalid with every problem."""
        known = {"url", "events", "description", "enabled"}
        problems = [Problem(field=name[:64], code="unknown", message="is not known here") for name in wish if name not in known]
        values = {name: wish[name] for name in known if name in wish}
        if new:
            values = {"events": [ALL], "description": "", "enabled": True, **values}
            if "url" not in values:
                problems.append(Problem(field="url", code="missing", message="is required"))
        if "url" in values:
            try:
                check_url(values["url"], allow=outbound_allow(self.org_id))
            except UnsafeUrl as unsafe:
                problems += unsafe.problems
        if "events" in values:
            problems += _events_problems(values["events"])
        text = values.get("description", "")
        if not isinstance(text, str) or len(text) > DESCRIPTION_LENGTH or not (text.isprintable() or not text):
            problems.append(
                Problem(field="description", code="wrong", message=f"must be printable, at most {DESCRIPTION_LENGTH} characters")
            )
        if not isinstance(values.get("enabled", True), bool):
            problems.append(Problem(field="enabled", code="wrong_type", message="must be true or false"))
        if problems:
            raise Invalid(problems)
        return values

    def _rows(self) -> QuerySet[Endpoint]:
        return Endpoint.objects.filter(org_id=self.org_id) if self.org_id else Endpoint.objects.filter(org_id=None)

    def _new(self, pk: str, values: dict[str, Any]) -> Endpoint:
        return Endpoint(
            endpoint_id=pk, org_id=self.org_id or None, secret_salt=signing.new_salt(), from_transition=floor(self.now),
            created_at=self.now, updated_at=self.now, created_by=self.by[:255], **values,
        )  # fmt: skip

    def check_url_of(self, row: Endpoint | None, url: str) -> None:
        """May it have this URL from now on? Raises Invalid."""
        if row is not None and row.for_jobs and url != row.url:
            raise Invalid([Problem(field="url", code="fixed", message="is the server that jobs name; make an endpoint of its own")])

    def _enabled(self, endpoint_id: str) -> Endpoint:
        row = self.get(endpoint_id)
        if not row.enabled:
            raise EndpointDisabled()
        return row

    def _due(self, row: Endpoint) -> None:
        try:
            Order().put([row.pk], self.now)
        except RedisDown:
            return  # upkeep puts it there
        Order().ring()

    def _atomic(self) -> Any:
        return transaction.atomic(using=router.db_for_write(Endpoint))

    def _note(self, row: Endpoint, old: Any, new: Any) -> None:
        audit.record(org_id=self.org_id, kind=Change.Kind.WEBHOOK, key=row.pk, old=old, new=new, by=self.by, at=self.now)


def outbound_allow(org_id: str) -> Sequence[str]:
    """Hosts off the public internet that may be called; who has no org goes by what the platform's operator allows."""
    return OrgConfigProvider().of(org_id).outbound_allow if org_id else settings.OUTBOUND_ALLOW


def _again(now: datetime) -> dict[str, Any]:
    return {"state": PENDING, "step": 0, "due_at": now, "give_up_at": now + LIFE, "ended_at": None}


def _facts(row: Endpoint) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("url", "events", "description", "enabled")}


def _events_problems(events: Any) -> list[Problem]:
    if not isinstance(events, list) or len(events) > len(EVENTS):
        return [Problem(field="events", code="wrong_type", message="must be a list of event types, or of * alone")]
    if events == [ALL]:
        return []
    return [
        Problem(field=f"events.{index}", code="not_allowed", message=f"must be one of {', '.join(EVENTS)}")
        for index, event in enumerate(events)
        if not isinstance(event, str) or event not in EVENTS or event in events[:index]
    ]
