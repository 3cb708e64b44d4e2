"""Two orgs that share nothing but the dispatchers: how long the tasks of one wait while the other floods."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from bench.house import PATIENCE_SECONDS, SENDERS, House, fields
from bench.measure import Wrong, percentile
from jobplatform_sdk.client import Client

CALM, SPACE, AGENT = "calm", "calm", "calm-1"


class Neighbour:
    """The org that keeps to its share."""

    def __init__(self, house: House) -> None:
        self.house = house
        agents = {AGENT: {"job_space_id": SPACE, "capabilities": []}}
        wishes = {"org": CALM, "name": "Calm", "agents": agents, "keys": {"cara": "submitter"}}
        keys = house.stage.ask("demo.founding", wishes)["keys"]
        self.client = Client(house.stage.url("web"), keys["cara"])
        house.stage.start_agent("bench.noop_agent", JOBPLATFORM_NATS_URL=house.stage.url("nats"), JOBPLATFORM_API_KEY=keys[AGENT])

    def waits(self, run: str, *, per_second: float, seconds: float) -> list[float]:
        """Submit at a steady pace; milliseconds that each task waited in the queue for its agent to be chosen."""
        count, began = int(per_second * seconds), time.perf_counter()
        with ThreadPoolExecutor(SENDERS) as senders:
            sent: list[Future[Any]] = []
            for number in range(count):
                time.sleep(max(0.0, began + number / per_second - time.perf_counter()))
                sent.append(senders.submit(self.client.submit, **fields(run, number, SPACE, CALM, "cara"), wait=0))
            for outcome in sent:
                outcome.result()
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            ledger = self.house.stage.ask("bench.ledger", {"org": CALM, "run": run, "count": count})
            if not ledger["wrong"]:
                return ledger["waits_ms"]
            if time.monotonic() > until:
                raise Wrong("; ".join(ledger["wrong"]))
            time.sleep(0.2)


def fairness(house: House, *, per_second: float, seconds: float, flood: int) -> dict[str, Any]:
    """Four times the same: alone, beside an org at the same pace, beside one that submits ten times as much as both can have in bulk,
    and beside one that submits single tasks over many connections as fast as they are answered."""
    calm = Neighbour(house)
    calm.waits("warm", per_second=per_second, seconds=1.0)
    found = {"alone": calm.waits("alone", per_second=per_second, seconds=seconds)}
    with ThreadPoolExecutor(1) as other:
        beside = other.submit(house.paced, "beside", per_second=per_second, seconds=seconds)
        found["both_keep_to_it"] = calm.waits("both", per_second=per_second, seconds=seconds)
        beside.result()
        # The flood is there before the calm org comes, and outlasts it.
        flooding = other.submit(house.bulk, "flood", flood)
        time.sleep(1.0)
        found["flooded"] = calm.waits("flooded", per_second=per_second, seconds=seconds)
        if flooding.done():
            raise Wrong("the flood was over before the other org was done: give it more tasks (--flood)")
        flooded = flooding.result()
        enough = threading.Event()
        storming = other.submit(house.storm, "storm", enough)
        time.sleep(1.0)
        try:
            found["stormed"] = calm.waits("stormed", per_second=per_second, seconds=seconds)
        finally:
            enough.set()
        storm_rate = storming.result()
    p99 = {name: percentile(waits, 0.99) for name, waits in found.items()}
    return {
        "per_second": per_second,
        "flood_tasks": flood,
        "flood_per_second": round(flooded.rate, 1),
        "storm_per_second": round(storm_rate, 1),
        "wait_ms": {
            name: {"p50": round(percentile(waits, 0.5), 1), "p99": round(p99[name], 1), "max": round(max(waits), 1)}
            for name, waits in found.items()
        },
        "p99_ratio": {name: round(p99[name] / max(p99["both_keep_to_it"], 1.0), 2) for name in ("flooded", "stormed")},
        "p99_ratio_to_alone": {name: round(p99[name] / max(p99["alone"], 1.0), 2) for name in ("flooded", "stormed")},
    }
