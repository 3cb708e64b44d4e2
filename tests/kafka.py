"""A Kafka of one broker: librdkafka's mock cluster, in a process of its own so that it can be frozen and killed."""

from __future__ import annotations

import sys

from tests.services import Server, missing

SCRIPT = """
from confluent_kafka import Producer
cluster = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
(broker,) = cluster.list_topics(timeout=10).brokers.values()
print(f"Kafka at {broker.host}:{broker.port}", flush=True)
while True:
    cluster.poll(3600)
"""


def kafka_server() -> Server:
    """Its address is the last word of `ready_line`."""
    try:
        import confluent_kafka  # noqa: F401
    except ImportError:
        missing("confluent-kafka")
    return Server("kafka", [sys.executable, "-c", SCRIPT], ready="Kafka at", port=0)
