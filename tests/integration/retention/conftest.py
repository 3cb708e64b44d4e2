from tests.integration.jobs.conftest import desk, queue
from tests.integration.webhooks.conftest import endpoint, nobody_listens, receiver
from tests.integration.workflows.conftest import flow, hand, sam

__all__ = ["desk", "endpoint", "flow", "hand", "nobody_listens", "queue", "receiver", "sam"]
