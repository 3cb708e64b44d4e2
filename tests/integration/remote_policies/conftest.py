from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from apps.core.auth import Principal
from apps.tasks.intake import TaskIntake, Verdict
from apps.tasks.parser import InitialJobParser
from tests.factories import NOON, make_entry, make_org
from tests.integration.remote_policies.service import SECRET
from tests.lying_server import LyingServer

SAM = Principal(org_id="acme", role="submitter", subject_id="sam", key_id="k1", name="tests")


@pytest.fixture
def org_of(db, redis) -> Callable[..., Any]:
    """`org_of(server, **config)`: acme asks this server, for approval by `remote:gate`."""

    def make(server: LyingServer | None, **config: Any) -> Any:
        from apps.orgs.config_store import OrgConfigProvider

        service = {"dsl_remote_url": server.url, "outbound_allow": ["127.0.0.1"]} if server else {}
        wishes = {"dsl_remote_secret": SECRET, "approval_dsl_id": "remote:gate", "dsl_remote_timeout_ms": 1000, **service, **config}
        org = make_org("acme", **wishes)
        OrgConfigProvider().refresh("acme")
        return org

    return make


def submit(*entries: dict[str, Any], now=NOON) -> list[Verdict]:
    return TaskIntake().submit_many([InitialJobParser().parse(make_entry(**each)) for each in entries or ({},)], SAM, now=now)
