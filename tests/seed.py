"""Makes orgs, their agents and keys beside a running platform: a line of wishes as JSON on standard input, a line of keys on
standard output, until the input ends.

    {"org": "acme", "config": {"max_attempts": 2}, "roles": {"sam": "submitter"},
     "agents": {"ada": {"job_space_id": "", "capabilities": []}}}
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")
    import django

    django.setup()
    from django.db import transaction

    from tests.factories import make_agent, make_key, make_org

    for line in sys.stdin:
        wishes = json.loads(line)
        with transaction.atomic():
            org = make_org(wishes["org"], **wishes.get("config", {}))
            keys = {name: make_key(org, role, name) for name, role in wishes.get("roles", {}).items()}
            for name, options in wishes.get("agents", {}).items():
                make_agent(org, name, **options)
                keys[name] = make_key(org, "agent", name)
        print(json.dumps(keys), flush=True)


if __name__ == "__main__":
    main()
