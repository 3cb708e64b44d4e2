import os
import threading
import time

import pytest

from apps.messaging import connection, subjects
from apps.messaging.connection import Delivery, NotStored, WireDown
from apps.messaging.consumer import PullConsumer

ADA = subjects.agent_token("acme", "ada")


def delivery(number, token=ADA, payload=b"{}"):
    return Delivery(subject=subjects.deliveries(token), payload=payload, msg_id=f"acme/t{number}#1")


def store(wire, deliveries):
    """Deliver, all of it."""
    sequences = wire.deliver(deliveries)
    assert all(isinstance(sequence, int) for sequence in sequences), sequences
    return sequences


def drained(consumer, count, seconds=15.0):
    """Fetch until `count` messages came."""
    messages, deadline = [], time.monotonic() + seconds
    while len(messages) < count and time.monotonic() < deadline:
        messages += consumer.fetch(count, 0.5)
    return messages


def deliver_until_stored(wire, deliveries, seconds=20.0):
    """What the dispatcher does while NATS is away: try again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        wire.wait_up(5)
        if all(isinstance(result, int) for result in wire.deliver(deliveries)):
            return
    pytest.fail("not stored in time")


def test_a_batch_gets_a_sequence_per_message_in_order(wire):
    results = store(wire, [delivery(number) for number in range(300)])
    assert results == sorted(results)
    assert len(set(results)) == 300


def test_the_same_message_id_is_stored_once(wire):
    first, second = wire.deliver([delivery(1), delivery(1)])
    assert first == second
    wire.ensure_agents([ADA])
    assert len(drained(PullConsumer("DELIVERIES", ADA), 2, seconds=1.0)) == 1


def test_a_message_too_big_is_said_and_hurts_no_other(wire):
    fine, big, also_fine = wire.deliver([delivery(1), delivery(2, payload=b"x" * 1024 * 1024), delivery(3)])
    assert isinstance(fine, int)
    assert isinstance(big, NotStored)
    assert isinstance(also_fine, int)
    assert wire.healthy()


def test_a_message_on_a_subject_without_a_stream_is_not_stored_and_said(wire):
    [result] = wire.deliver([Delivery(subject="agents.x.nothing", payload=b"", msg_id="1")])
    assert isinstance(result, WireDown)


def test_a_deleted_stream_is_made_again_and_the_message_kept(wire, nats):
    from tests.services import empty_jetstream

    wire.ensure_agents([ADA])
    empty_jetstream(nats)
    [sequence] = wire.deliver([delivery(1)])
    assert sequence == 1
    assert [message.data for message in drained(PullConsumer("DELIVERIES", ADA), 1)] == [b"{}"]


def test_fetch_gives_what_is_there_without_waiting_for_more(wire):
    wire.ensure_agents([ADA])
    consumer = PullConsumer("DELIVERIES", ADA)
    assert consumer.fetch(10, 0.01) == []
    store(wire, [delivery(number) for number in range(3)])
    messages = drained(consumer, 3)
    assert [message.subject for message in messages] == [subjects.deliveries(ADA)] * 3
    consumer.ack(messages)


def test_what_is_not_acknowledged_is_given_to_another_when_the_consumer_closes(wire):
    wire.ensure_agents([ADA])
    store(wire, [delivery(number) for number in range(20)])
    one = PullConsumer("DELIVERIES", ADA)
    taken = drained(one, 1)
    one.ack(taken)
    one.close()
    other = PullConsumer("DELIVERIES", ADA)
    assert len(drained(other, 20 - len(taken))) == 20 - len(taken)


def test_two_consumers_share_one_durable(wire):
    wire.ensure_agents([ADA])
    one, other = PullConsumer("DELIVERIES", ADA), PullConsumer("DELIVERIES", ADA)
    assert one.fetch(5, 0.01) == other.fetch(5, 0.01) == []  # both stand in line
    sequences = store(wire, [delivery(number) for number in range(10)])
    got = drained(one, 5, 2.0) + drained(other, 5, 2.0)
    got += drained(one, 10 - len(got), 1.0)
    assert len(got) == len({message.ack_token for message in got}) == len(sequences)


def test_a_deleted_delivery_is_never_fetched(wire):
    wire.ensure_agents([ADA])
    sequences = store(wire, [delivery(number, payload=b"%d" % number) for number in range(3)])
    wire.delete_delivery([sequences[1], 999])
    assert [message.data for message in drained(PullConsumer("DELIVERIES", ADA), 2)] == [b"0", b"2"]


def test_what_waits_in_the_streams_can_be_counted(wire):
    assert wire.deliveries_of(ADA).unfetched == 0  # nobody made its consumer yet
    wire.ensure_agents([ADA])
    store(wire, [delivery(number) for number in range(3)])
    store(wire, [Delivery(subject=subjects.report("acme", "t1", ADA), payload=b"{}", msg_id="r")])
    assert wire.deliveries_of(ADA).unfetched == 3
    assert (wire.reports().stored, wire.reports().delivered, wire.reports().done) == (1, 0, 0)
    listener = PullConsumer(subjects.REPORTS, subjects.LISTENER)
    [report] = drained(listener, 1)
    assert (wire.reports().stored, wire.reports().delivered, wire.reports().done) == (1, 1, 0)
    listener.ack([report])
    listener.close()
    assert wire.reports().done == 1


def test_news_reaches_subscribers_in_order_until_they_close(wire):
    heard, enough = [], threading.Event()

    def hear(subject, payload):
        heard.append((subject, payload))
        if len(heard) == 100:
            enough.set()

    subscription = wire.subscribe("events.acme.*", hear)
    wire.publish([("events.acme.t1", b"%d" % number) for number in range(100)])
    assert enough.wait(10)
    assert heard == [("events.acme.t1", b"%d" % number) for number in range(100)]
    subscription.close()
    last = threading.Event()
    wire.subscribe("events.acme.t1", lambda _subject, _payload: last.set())
    wire.publish([("events.acme.t1", b"more")])
    assert last.wait(10)
    assert len(heard) == 100


def test_a_subscription_made_while_the_connection_is_still_coming_up_is_in_force_once_it_is(nats):
    heard = threading.Semaphore(0)
    for _ in range(5):
        connection.reset()
        current = connection.wire()
        for _ in range(20):
            current.subscribe("events.acme.*", lambda *_: heard.release())
        assert current.wait_up(10)
        current.publish([("events.acme.t1", b"")])
        for _ in range(20):
            assert heard.acquire(timeout=10)


def test_a_receiver_that_fails_is_logged_and_hears_the_next_message(wire, caplog):
    heard = threading.Event()

    def hear(_subject, payload):
        if payload == b"bad":
            raise KeyError("a fault of ours")
        heard.set()

    wire.subscribe("events.acme.*", hear)
    wire.publish([("events.acme.t1", b"bad"), ("events.acme.t1", b"good")])
    assert heard.wait(10)
    assert "nats.receiver_failed" in caplog.text


def test_a_queue_group_hears_each_message_once(wire):
    heard, done = [], threading.Semaphore(0)
    for _ in range(3):
        wire.subscribe("events.acme.*", lambda _subject, payload: (heard.append(payload), done.release()), queue="listeners")
    wire.publish([("events.acme.t1", b"%d" % number) for number in range(30)])
    for _ in range(30):
        assert done.acquire(timeout=10)
    assert sorted(heard, key=int) == [b"%d" % number for number in range(30)]


def test_many_threads_deliver_through_one_connection(wire):
    results = []

    def send(thread):
        results.extend(wire.deliver([delivery(f"{thread}-{number}") for number in range(50)]))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(results)) == 400


def test_nothing_waits_for_a_server_that_is_away(settings):
    settings.NATS_URL = "nats://127.0.0.1:1"
    connection.reset()
    wire = connection.wire()
    assert not wire.healthy()
    assert all(isinstance(result, WireDown) for result in wire.deliver([delivery(1), delivery(2)]))
    with pytest.raises(WireDown):
        wire.ensure_agents([ADA])
    wire.publish([("events.acme.t1", b"lost")])
    wire.subscribe("events.>", lambda *_: None).close()
    consumer = PullConsumer("DELIVERIES", ADA)
    assert consumer.fetch(1, 0.01) == []
    connection.reset()
    assert wire.dropped == 1


def test_a_forked_child_gets_a_connection_of_its_own_and_leaves_the_parents_alone(wire):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        own = connection.wire()
        good = own is not wire and own.wait_up(10) and isinstance(own.deliver([delivery("child")])[0], int)
        connection.reset()
        os.write(write, b"1" if good else b"0")
        os._exit(0)
    os.close(write)
    assert os.read(read, 1) == b"1"
    os.waitpid(child, 0)
    assert connection.wire() is wire
    assert isinstance(wire.deliver([delivery("parent")])[0], int)


def test_a_killed_server_that_comes_back_finds_everything_working(own_wire, broker):
    own_wire.ensure_agents([ADA])
    consumer = PullConsumer("DELIVERIES", ADA)
    heard, gap = threading.Event(), threading.Event()
    own_wire.subscribe("events.acme.*", lambda *_: heard.set(), on_gap=gap.set)
    store(own_wire, [delivery(1)])
    consumer.ack(drained(consumer, 1))
    assert consumer.fetch(1, 0.01) == []  # a request stands open when the server dies

    broker.kill()
    assert isinstance(own_wire.deliver([delivery(2)])[0], WireDown)
    broker.up()

    deliver_until_stored(own_wire, [delivery(2)])
    assert gap.wait(10)
    assert len(drained(consumer, 1)) == 1
    own_wire.publish([("events.acme.t1", b"")])
    assert heard.wait(10)


def test_a_server_that_lost_its_disk_gets_streams_and_consumers_again(own_wire, broker):
    own_wire.ensure_agents([ADA])
    agent, listener = PullConsumer("DELIVERIES", ADA), PullConsumer(subjects.REPORTS, subjects.LISTENER)
    assert agent.fetch(1, 0.01) == listener.fetch(1, 0.01) == []

    broker.wipe()
    broker.up()

    report = Delivery(subject=subjects.report("acme", "t1", ADA), payload=b"{}", msg_id="acme/t1#1:1")
    deliver_until_stored(own_wire, [report])
    assert len(drained(listener, 1)) == 1
    own_wire.ensure_agents([ADA])
    deliver_until_stored(own_wire, [delivery(1)])
    assert len(drained(agent, 1)) == 1


def test_a_stream_deleted_under_a_waiting_consumer_is_made_again(own_wire, broker):
    from tests.services import empty_jetstream

    listener = PullConsumer(subjects.REPORTS, subjects.LISTENER)
    assert listener.fetch(1, 0.01) == []
    empty_jetstream(broker.url)
    report = Delivery(subject=subjects.report("acme", "t1", ADA), payload=b"{}", msg_id="acme/t1#1:1")
    deliver_until_stored(own_wire, [report])
    assert len(drained(listener, 1)) == 1
