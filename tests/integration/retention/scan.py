"""Everything that every store holds, as text, so that a name can be looked for in all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from django.apps import apps
from django.db import models

from apps.core.ordered_json import OrderedJSON
from apps.messaging import streams
from apps.messaging.connection import wire
from apps.orgs.models import Change
from apps.retention.owned import of_org, tables


def rows() -> Iterator[str]:
    """Of every table, Django's own and the libraries' too."""
    for model in apps.get_models():
        if not model._meta.proxy:
            names = [field.attname for field in model._meta.concrete_fields]
            for values in model._base_manager.order_by("pk").values_list(*names):
                yield f"{model._meta.label} {dict(zip(names, values, strict=True))}"


EXPIRES = "expires: "


def keys(client) -> Iterator[str]:
    """Of Redis, each with each of its members."""
    read = {
        "string": lambda name: [client.get(name)], "hash": lambda name: client.hgetall(name).items(), "set": client.smembers,
        "list": lambda name: client.lrange(name, 0, -1), "zset": lambda name: client.zrange(name, 0, -1),
    }  # fmt: skip
    for name in client.keys("*"):
        kind, mark = client.type(name), EXPIRES if client.ttl(name) > 0 else ""
        if kind in read:  # else it has just expired
            yield from (f"{mark}{name} {member}" for member in read[kind](name))


def messages() -> list[str]:
    """Consumers of each stream, and the subjects of what is in it."""

    async def look() -> list[str]:
        found = []
        for name in (await streams.call(wire().link, "STREAM.NAMES", {}))["streams"] or []:
            consumers = await streams.call(wire().link, f"CONSUMER.NAMES.{name}", {})
            state = (await streams.call(wire().link, f"STREAM.INFO.{name}", {"subjects_filter": ">"}))["state"]
            found += [f"consumer {one}" for one in consumers["consumers"] or []]
            found += [f"{count} of {subject}" for subject, count in (state.get("subjects") or {}).items()]
        return found

    return wire().call(look(), 5)


def files(*folders: Path) -> Iterator[str]:
    """Names of files and folders, and what is in those that are not the servers' own."""
    for folder in folders:
        yield from (str(path.relative_to(folder)) for path in folder.rglob("*"))


def platforms_line(text: str) -> bool:
    """The one that is to be left."""
    return text.startswith("orgs.Change") and "'org_id': ''" in text


def fill(org_id: str) -> None:
    """A row of the org in every table that has none: so that no table is found empty because nobody wrote to it."""
    for model in tables():
        _row_of(model, org_id)
    assert [model for model in tables() if not model._base_manager.filter(of_org(model, org_id)).exists()] == []
    assert Change.objects.filter(org_id=org_id).exists()


def _row_of(model, org_id: str):
    """The primary key of one."""
    mine = model._base_manager.filter(of_org(model, org_id)).values_list("pk", flat=True)
    if not mine.exists():
        made = model(**{field.attname: _some(field, model, org_id) for field in model._meta.concrete_fields if _is_needed(field)})
        model._base_manager.bulk_create([made])
    return mine[0]


def _is_needed(field) -> bool:
    return not isinstance(field, models.AutoField) and (field.primary_key or field.attname == "org_id" or not field.has_default())


def _some(field, model, org_id: str):
    if field.is_relation:
        return _related(field, org_id)
    if field.attname == "org_id":
        return org_id
    if isinstance(field, models.BooleanField):
        return False
    if isinstance(field, models.JSONField | OrderedJSON):
        return {}
    if isinstance(field, models.DateTimeField):
        from apps.core import clock

        return clock.now()
    if isinstance(field, models.BinaryField):
        return b""
    if isinstance(field, models.IntegerField | models.FloatField):
        return 1
    return f"{org_id}/{model.__name__}"[: field.max_length]


def _related(field, org_id: str):
    from django.contrib.auth import get_user_model

    from apps.orgs.models import Org

    if field.related_model is Org:
        return org_id
    if field.related_model is get_user_model():
        return get_user_model().objects.create(username=f"person-of-{org_id}", password="!").pk
    return _row_of(field.related_model, org_id)
