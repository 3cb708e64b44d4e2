"""What a session knows: a value per key, each write a version, with who wrote it.

A write is all or nothing and happens once per writer, however often it is tried: `write_once` may be called again after a
crash, or by two processes at once. Writers of one key are kept in order; the last version is what readers see.

    store = ContextStore()
    version = store.write_once(session_key, {"summary": {...}}, writer="acme/s1:main.sum#1", now=now)
    store.read(session_key, ["summary"])            # {"summary": {...}}
    store.read(session_key, at_version=version - 1)  # as it was before

Reading costs what is read, not what the session holds. How a write stays whole without transactions: its values are
inserted first, under ids that carry version and digest, and nobody sees them; then one row, the write, is inserted under
an id that only one writer can get.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.db import IntegrityError

from apps.core import bulk
from apps.core.errors import Invalid, Problem, Unavailable
from apps.workflows.models_context import ContextValue, ContextWrite

SUBMITTED = "session"
"""The writer of what the session began with; every other writer is a step."""
KEY_MAX = 512
VALUE_MAX = 64 * 1024 * 1024
"""characters of one value as JSON"""
PART = 2 * 1024 * 1024
"""characters in a row: MongoDB takes documents up to 16 MB"""
TRIES = 100
AT_ONCE = 500

_PLAIN = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_LONG_NUMBER = re.compile("[0-9]{19}")


class Contended(Unavailable):
    sentence = "Too many write to this session's context at once."


class Torn(Unavailable):
    sentence = "The session's context was deleted while it was read."


@dataclass(frozen=True, kw_only=True)
class Written:
    """One value a key had."""

    version: int
    value: Any
    written_by: str
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """Where a value is."""

    key: str
    version: int
    digest: str
    first: str
    parts: int

    def ids(self) -> list[str]:
        stem = self.first.rpartition(".")[0]
        return [f"{stem}.{part}" for part in range(self.parts)]


class ContextStore:
    def version(self, session_key: str) -> int:
        """Of the last write; 0 before the first."""
        found = bulk.scan(ContextWrite, ["version"], order="-version", first=1, session_key=session_key)
        return next((version for (version,) in found), 0)

    def write_once(self, session_key: str, values: Mapping[str, Any], writer: str, now: datetime) -> int:
        """All values in one write; its version. A writer that wrote already gets the version of then, and nothing changes:
        who wants to write again is another writer. Nothing to write: the present version. Raises Invalid, Contended."""
        texts = _texts(values)
        if not texts:
            return self.version(session_key)
        digest = _digest(writer, texts)
        for _ in range(TRIES):
            # In this order: whoever writes after the first look makes our insert fail, and we look again.
            version = self.version(session_key) + 1
            if (before := self._version_by(session_key, writer)) is not None:
                return before
            if self._commit(session_key, version, texts, writer, digest, now):
                return version
        raise Contended(session=session_key, writer=writer)

    def read(self, session_key: str, keys: Collection[str] | None = None, at_version: int | None = None) -> dict[str, Any]:
        """The values of these keys (default: of all), as of a version (default: the last). A key that was never written is
        not in the answer. In the order of `keys`, else of writing."""
        places = self._places(session_key, keys, at_version)
        newest: dict[str, _Place] = {}
        for place in places:
            newest[place.key] = place
        order = newest if keys is None else [key for key in dict.fromkeys(keys) if key in newest]
        chosen = [newest[key] for key in order]
        return {place.key: value for place, value in zip(chosen, _load(chosen), strict=True)}

    def keys(self, session_key: str, at_version: int | None = None) -> dict[str, int]:
        """Every key and the version that wrote it last; no value is loaded."""
        return {place.key: place.version for place in self._places(session_key, None, at_version)}

    def writes(self, session_key: str, at_version: int | None = None) -> list[ContextWrite]:
        """Every write in order: version, writer, keys, at. No value is loaded."""
        rows = ContextWrite.objects.filter(session_key=session_key)
        return list((rows if at_version is None else rows.filter(version__lte=at_version)).order_by("version"))

    def history(self, session_key: str, key: str, *, limit: int = 100) -> list[Written]:
        """What the key was, oldest first; of more than `limit` values the last."""
        places = self._places(session_key, [key], None)[-limit:]
        writes = {write.version: write for write in _writes(session_key, [place.version for place in places])}
        return [
            Written(version=place.version, value=value, written_by=writes[place.version].writer, at=writes[place.version].at)
            for place, value in zip(places, _load(places), strict=True)
        ]

    def purge(self, session_key: str) -> int:
        """Nothing of the session is left; how many rows there were. What a dead writer left unfinished goes too."""
        return sum(bulk.remove_in_parts(model, session_key=session_key) for model in (ContextWrite, ContextValue))

    def _version_by(self, session_key: str, writer: str) -> int | None:
        found = bulk.scan(ContextWrite, ["version"], order="version", session_key=session_key, writer=writer)
        return next((version for (version,) in found), None)

    def _commit(self, session_key: str, version: int, texts: Mapping[str, str], writer: str, digest: str, now: datetime) -> bool:
        """False: somebody else has this version."""
        write = bulk.new(
            ContextWrite,
            id=_write_id(session_key, version),
            session_key=session_key,
            version=version,
            writer=writer,
            digest=digest,
            keys=list(texts),
            at=now,
        )
        rows = _rows(write, texts)
        try:
            with bulk.atomic(ContextWrite):
                bulk.insert_missing(rows)
                bulk.insert([write])
        except IntegrityError:
            if not bulk.has_transactions(ContextWrite):
                self._sweep(write, rows)
            return False
        return True

    def _sweep(self, write: ContextWrite, rows: Sequence[ContextValue]) -> None:
        """Take back values that no write names. They are ours alone, unless the same write was made by somebody else."""
        if not ContextWrite.objects.filter(pk=write.pk, digest=write.digest).exists():
            ContextValue.objects.filter(pk__in=[row.pk for row in rows]).delete()

    def _places(self, session_key: str, keys: Collection[str] | None, at_version: int | None) -> list[_Place]:
        """Of every value that was written, in the order of writing."""
        rows = ContextValue.objects.filter(session_key=session_key, part=0)
        if keys is not None:
            rows = rows.filter(key__in=list(keys))
        if at_version is not None:
            rows = rows.filter(version__lte=at_version)
        names = ("key", "version", "digest", "id", "parts")
        found = [
            _Place(key=key, version=version, digest=digest, first=first, parts=parts)
            for key, version, digest, first, parts in rows.order_by("version", "id").values_list(*names)
        ]
        if bulk.has_transactions(ContextWrite):
            return found
        written = {write.version: write.digest for write in _writes(session_key, {place.version for place in found})}
        return [place for place in found if written.get(place.version) == place.digest]


def _write_id(session_key: str, version: int) -> str:
    return f"{session_key}@{version:08d}"


def _writes(session_key: str, versions: Iterable[int]) -> list[ContextWrite]:
    ids = [_write_id(session_key, version) for version in versions]
    parts = (ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE))
    return [write for part in parts for write in ContextWrite.objects.filter(pk__in=part).defer("keys")]


def _rows(write: ContextWrite, texts: Mapping[str, str]) -> list[ContextValue]:
    rows = []
    for place, (key, text) in enumerate(texts.items()):
        parts = -(-len(text) // PART)
        rows += [
            bulk.new(
                ContextValue, id=f"{write.pk}.{write.digest}/{place:05d}.{part}", session_key=write.session_key, key=key,
                version=write.version, digest=write.digest, part=part, parts=parts, value=text[part * PART : (part + 1) * PART],
            )
            for part in range(parts)
        ]  # fmt: skip
    return rows


def _load(places: Sequence[_Place]) -> list[Any]:
    ids = [pk for place in places for pk in place.ids()]
    texts: dict[str, str] = {}
    for start in range(0, len(ids), AT_ONCE):
        texts.update((pk, row.value) for pk, row in bulk.load(ContextValue, ids[start : start + AT_ONCE], ["value"]).items())
    try:
        return [_value("".join(texts[pk] for pk in place.ids())) for place in places]
    except KeyError as missing:
        raise Torn(value=missing.args[0]) from None


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Each value as JSON. Raises Invalid with every problem."""
    problems, texts = [], {}
    for key, value in values.items():
        if not isinstance(key, str) or not 0 < len(key) <= KEY_MAX or not key.isprintable():
            problems.append(Problem(field=str(key)[:80], code="bad_key", message=f"must be 1 to {KEY_MAX} printable characters"))
            continue
        try:
            texts[key] = _text(value)
        except (TypeError, ValueError, RecursionError) as error:
            problems.append(Problem(field=key[:80], code="not_json", message=f"is not JSON: {str(error)[:200]}"))
            continue
        if len(texts[key]) > VALUE_MAX:
            problems.append(Problem(field=key[:80], code="too_long", message=f"is longer than {VALUE_MAX} characters as JSON"))
    if problems:
        raise Invalid(problems, "The context cannot hold this.")
    return texts


def _text(value: Any) -> str:
    try:
        text = orjson.dumps(value, option=_PLAIN).decode()
    except TypeError as error:
        # JSON has whole numbers beyond 64 bits, orjson has not.
        if "64-bit" not in str(error):
            raise
        return json.dumps(value, allow_nan=False)
    if "null" in text:
        json.dumps(value, allow_nan=False)  # orjson writes NaN as null; where there is no null there was none
    return text


def _value(text: str) -> Any:
    return json.loads(text) if _LONG_NUMBER.search(text) else orjson.loads(text)


def _digest(writer: str, texts: Mapping[str, str]) -> str:
    seen = hashlib.blake2b(digest_size=16)
    for part in (writer, *(part for item in texts.items() for part in item)):
        raw = part.encode()
        seen.update(len(raw).to_bytes(8, "big") + raw)
    return seen.hexdigest()
