"""How the admin sees an org: as its queue."""

from __future__ import annotations

from apps.orgs.models import Org


class OrgQueue(Org):
    """No table of its own."""

    class Meta:
        proxy = True
        verbose_name = "queue"
        verbose_name_plural = "queues"
