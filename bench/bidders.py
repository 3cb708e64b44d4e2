"""A crowd of bidders in one process: answers every call for bids of the routing bench. Speaks for all agents of its org, which
takes a user of the agents' account without an agent's limits: only a bench has one."""

from __future__ import annotations

import asyncio
import os
import signal

import orjson

SILENT_EVERY = 100
"""Of so many agents one keeps silent in the auctions named so: those last their whole window."""


async def answer(url: str) -> None:
    import nats

    from apps.messaging import credentials, subjects

    options = credentials._user("bench-bidders", credentials._agents_account()).options()
    connection = await nats.connect(url, **options)

    async def called(message: nats.aio.msg.Msg) -> None:
        call = orjson.loads(message.data)
        number = int(message.subject.split(".")[1].rpartition("-")[2])
        if call["task_id"].startswith("silent") and number % SILENT_EVERY == 0:
            return
        bid = {"task_id": call["task_id"], "price": 10 + number * 7 % 13, "eta_s": 5 + number % 7, "confidence": 0.9}
        await connection.publish(message.reply, orjson.dumps(bid))

    await connection.subscribe(subjects.bids("*"), cb=called)
    await connection.flush()
    print("READY", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await connection.close()


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobplatform.settings")
    import django

    django.setup()
    asyncio.run(answer(os.environ["NATS_URL"]))


if __name__ == "__main__":
    main()
