"""Founds the demo's org beside a running platform: wishes as JSON on standard input, keys and a login on standard output.

An operator would do the same in the admin.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from typing import Any


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")
    import django

    django.setup()
    json.dump(found(json.load(sys.stdin)), sys.stdout)


def found(wishes: dict[str, Any]) -> dict[str, Any]:
    """`{"org", "name", "keys": {name: role}, "agents": {subject: {"job_space_id", "capabilities"}}, "login": name or ""}`
    → `{"keys": {name or subject: printed key}, "password"}`."""
    from django.contrib.auth import get_user_model
    from django.db import transaction

    from apps.core import clock
    from apps.orgs import keys
    from apps.orgs.models import Org
    from apps.roles.models import Role, Subject, SubjectRole

    now, printed, password = clock.now(), {}, ""
    with transaction.atomic():
        org = Org.objects.create(org_id=wishes["org"], name=wishes["name"], created_at=now)
        for name, role in wishes["keys"].items():
            printed[name] = keys.create(org=org, role=role, subject_id=name, name=name, by="demo", now=now).printed
        for subject_id, about in wishes["agents"].items():
            space = about["job_space_id"]
            role, _ = Role.objects.get_or_create(
                org=org, role_id=f"reads-{space}", defaults={"role_type": "SCOUTING", "job_space_id": space}
            )
            subject = Subject.objects.create(org=org, subject_id=subject_id, subject_type="agent", capabilities=about["capabilities"])
            SubjectRole.objects.create(subject=subject, role=role, job_space_id=space)
            printed[subject_id] = keys.create(org=org, role="agent", subject_id=subject_id, name=subject_id, by="demo", now=now).printed
        if wishes.get("login"):
            password = secrets.token_urlsafe(12)
            get_user_model().objects.create_superuser(wishes["login"], password=password)
    return {"keys": printed, "password": password}


if __name__ == "__main__":
    main()
