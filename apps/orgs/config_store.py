"""Where an org's configuration lives: rows in the database, cached in Redis, one key per parameter.

The database is the truth. Reading costs one MGET; when Redis is away, empty, expired or behind, one query.

Who else may be writing: another `set` of the same org, and readers that fill the cache. Redis must never be
believed when it is older than the database, so
- every change takes the org's next version, and the org's row keeps changes one after the other;
- before it commits, a change raises the org's *fence* to that version: from then on nobody believes, or writes,
  a cached copy of an older version (`config_store.lua`), whatever order processes get to run in or die;
- without the fence nothing is changed: `set` answers Unavailable while Redis is away;
- the fence outlives every copy of an older version, so it may expire.

| Redis key | value | owner |
|---|---|---|
| `config:<org>:@fence` | lowest version that may be believed | expires |
| `config:<org>:@version` | version of the cached copy | expires |
| `config:<org>:<key>` | the value as JSON; empty: not set | expires |
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from django.db import router, transaction
from django.db.models import F

from apps.core import redis
from apps.core.errors import Conflict, Missing, Unavailable
from apps.orgs import config_checks, config_keys
from apps.orgs.audit import record
from apps.orgs.config_keys import TABLE, OrgConfig
from apps.orgs.models import Change, Org, OrgConfigParameter

__all__ = ["NotSet", "OrgConfig", "OrgConfigProvider", "StaleVersion"]

log = logging.getLogger(__name__)

CACHE_SECONDS = 60
FENCE_SECONDS = 3600
"""Longer than any copy lives, and than any reader is paused between its query and its writing of a copy."""
_NOTHING = object()
_SCRIPT = Path(__file__).with_name("config_store.lua")


class NotSet(Missing):
    """In the spec's words. Also what a foreign or missing org gets, so the two look the same."""

    def __init__(self, org_id: str, key: str) -> None:
        super().__init__(f"Key '{key[:64]}' not found for org {org_id[:64]}")


class StaleVersion(Conflict):
    sentence = "Somebody changed this key meanwhile."
    shown = ("version",)


class OrgConfigProvider:
    def of(self, org_id: str) -> OrgConfig:
        """Defaults filled in. An org that does not exist wants the defaults, in version 0."""
        return self.of_many([org_id])[org_id]

    def of_many(self, org_ids: Iterable[str]) -> dict[str, OrgConfig]:
        """One round trip for all of them."""
        asked = list(dict.fromkeys(org_ids))
        found = self._cached(asked)
        missed = [org_id for org_id in asked if org_id not in found]
        for org_id, (version, values) in self._stored(missed).items() if missed else ():
            found[org_id] = config_keys.config_of(values, version=version)
            self._fill(org_id, version, values)
        return {org_id: found.get(org_id) or OrgConfig() for org_id in asked}

    def versions(self, org_ids: Iterable[str]) -> dict[str, int]:
        """What a decision about the tasks of these orgs records as its `config_version`; one round trip."""
        return {org_id: config.version for org_id, config in self.of_many(org_ids).items()}

    def parameter(self, org_id: str, key: str) -> OrgConfigParameter:
        """What was set, read from the database. Raises NotSet, also for keys nobody knows."""
        row = OrgConfigParameter.objects.filter(org_id=org_id, key=key).first() if key in TABLE else None
        if row is None:
            raise NotSet(org_id, key)
        return row

    def set(self, org_id: str, key: str, value: Any, *, by: str, now: datetime, if_version: int | None = None) -> int:
        """Set `key` and give the row's new version. With `if_version`, only over that version (0: not set yet).

        Raises UnknownKey, WrongValue, NotSet (no such org), StaleVersion, Unavailable, or what a check of the key says."""
        config_keys.check(key, value)
        config_checks.run(org_id, key, value)
        return self._change(org_id, key, value, by=by, now=now, if_version=if_version)

    def unset(self, org_id: str, key: str, *, by: str, now: datetime, if_version: int | None = None) -> None:
        """Back to the default. Raises UnknownKey, NotSet, StaleVersion, Unavailable."""
        config_keys.find(key)
        self._change(org_id, key, _NOTHING, by=by, now=now, if_version=if_version)

    def _change(self, org_id: str, key: str, value: Any, *, by: str, now: datetime, if_version: int | None = None) -> int:
        home = router.db_for_write(Org)
        with transaction.atomic(using=home):
            # This update holds the org's row until the commit: changes of one org happen one after the other.
            if not Org.objects.filter(pk=org_id).update(config_version=F("config_version") + 1):
                raise NotSet(org_id, key)
            version = Org.objects.values_list("config_version", flat=True).get(pk=org_id)
            row = OrgConfigParameter.objects.filter(org_id=org_id, key=key).first()
            if value is _NOTHING and row is None:
                raise NotSet(org_id, key)
            if if_version is not None and if_version != (row.version if row else 0):
                raise StaleVersion(version=row.version if row else 0)
            shown = TABLE[key].shown
            old = shown(row.value) if row else None
            new, row_version = None, 0
            if value is _NOTHING:
                row.delete()
            else:
                row = row or OrgConfigParameter(org_id=org_id, key=key, version=0)
                row.value, row.version, row.changed_at, row.changed_by = value, row.version + 1, now, by
                row.save()
                new, row_version = shown(value), row.version
            record(org_id=org_id, kind=Change.Kind.CONFIG, key=key, old=old, new=new, by=by, at=now)
            self._raise_fence(org_id, version)
            transaction.on_commit(lambda: self.refresh(org_id), using=home)
        return row_version

    def refresh(self, org_id: str) -> None:
        """Bring the cached copy up to the database. A hint: readers do the same when they find it behind."""
        for version, values in self._stored([org_id]).values():
            self._fill(org_id, version, values)

    # ---- Redis ------------------------------------------------------------------------------------------

    def _cached(self, org_ids: list[str]) -> dict[str, OrgConfig]:
        """The orgs whose cached copy is whole and may be believed."""
        if not org_ids:
            return {}
        try:
            texts = redis.client().mget([name for org_id in org_ids for name in _names(org_id)])
        except redis.RedisDown as error:
            log.warning("config.redis_away", extra={"error": str(error)})
            return {}
        width = len(TABLE) + 2
        found = {}
        for index, org_id in enumerate(org_ids):
            fence, version, *values = texts[index * width : (index + 1) * width]
            if version is None or None in values or int(version) < int(fence or 0):
                continue
            known = {key: orjson.loads(text) for key, text in zip(TABLE, values, strict=True) if text}
            found[org_id] = config_keys.config_of(known, version=int(version))
        return found

    def _fill(self, org_id: str, version: int, values: dict[str, Any]) -> None:
        texts = [orjson.dumps(values[key]).decode() if key in values else "" for key in TABLE]
        try:
            redis.script(_SCRIPT)(keys=_names(org_id), args=["fill", version, CACHE_SECONDS, *texts])
        except redis.RedisDown as error:
            log.warning("config.not_cached", extra={"org": org_id, "error": str(error)})

    def _raise_fence(self, org_id: str, version: int) -> None:
        try:
            redis.script(_SCRIPT)(keys=_names(org_id), args=["fence", version, FENCE_SECONDS])
        except redis.RedisDown as error:
            raise Unavailable("Redis is away; nothing was changed.") from error

    # ---- database ---------------------------------------------------------------------------------------

    def _stored(self, org_ids: list[str]) -> dict[str, tuple[int, dict[str, Any]]]:
        """(version, values as set) by org, in one query, so that both are of the same moment."""
        rows = Org.objects.filter(pk__in=org_ids).values_list("pk", "config_version", "parameters__key", "parameters__value")
        found: dict[str, tuple[int, dict[str, Any]]] = {}
        for org_id, version, key, value in rows:
            values = found.setdefault(org_id, (version, {}))[1]
            if key not in TABLE:
                continue  # not set at all, or a key of another release
            wrong = TABLE[key].rule.problem(value)
            if wrong:
                log.error("config.wrong_value_stored", extra={"org": org_id, "key": key, "problem": wrong})
            else:
                values[key] = value
        return found


def _names(org_id: str) -> list[str]:
    return [redis.key("config", org_id, part) for part in ("@fence", "@version", *TABLE)]
