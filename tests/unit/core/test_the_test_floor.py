import threading

import pytest

from apps.orgs.models import Org
from apps.tasks.models import Transition
from tests.factories import NOON, make_org


@pytest.mark.store
@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_finds_the_database_empty(db, turn):
    assert Transition.objects.count() == 0
    assert Org.objects.count() == 0
    make_org()
    Transition.objects.create(id=f"{turn}", task_key="acme/t1", org_id="acme", new="queued", actor="tests", at=NOON)


@pytest.mark.store
@pytest.mark.parametrize("turn", [1, 2])
def test_threads_share_the_database(transactional_db, turn):
    def write() -> None:
        from django.db import connections

        make_org("other")
        Transition.objects.create(id="t", task_key="acme/t1", org_id="acme", new="queued", actor="tests", at=NOON)
        connections.close_all()

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert Org.objects.count() == 1
    assert Transition.objects.count() == 1


def test_redis_is_real_and_empty(redis):
    assert redis.dbsize() == 0
    redis.set("left", "over")


def test_nats_is_real_has_jetstream_and_lets_only_known_users_in(nats):
    import asyncio

    import nats as library
    from nats.errors import Error

    from apps.messaging.credentials import platform_credentials

    async def streams(**credentials) -> list:
        connection = await library.connect(nats, allow_reconnect=False, **credentials)
        found = await connection.jetstream().streams_info()
        await connection.close()
        return found

    assert asyncio.run(streams(**platform_credentials().options())) == []
    with pytest.raises(Error):
        asyncio.run(streams())
