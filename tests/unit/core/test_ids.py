from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from apps.core import ids

org_ids = st.from_regex(ids.ORG_ID, fullmatch=True)


def test_ids_sort_by_the_time_of_making_and_are_32_hex_characters():
    made = [ids.time_ordered() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert all(len(one) == 32 and int(one, 16) >= 0 for one in made)


def test_an_id_has_the_layout_of_a_uuid_of_version_7():
    one = ids.time_ordered()
    assert one[12] == "7"
    assert one[16] in "89ab"


def test_threads_never_make_the_same_id():
    with ThreadPoolExecutor(8) as pool:
        made = [one for batch in pool.map(lambda _: [ids.time_ordered() for _ in range(1000)], range(8)) for one in batch]
    assert len(set(made)) == 8000


@given(org_ids, st.text(min_size=1))
def test_a_task_key_splits_into_the_org_and_task_it_was_made_of(org_id, task_id):
    assert ids.split_task_key(ids.task_key(org_id, task_id)) == (org_id, task_id)


@given(st.tuples(org_ids, st.text(min_size=1)), st.tuples(org_ids, st.text(min_size=1)))
def test_two_orgs_never_share_a_key(one, other):
    assert (ids.task_key(*one) == ids.task_key(*other)) == (one == other)


def test_an_assignment_id_follows_from_its_parts():
    assert ids.assignment_id("acme/t1", 2) == ids.assignment_id("acme/t1", 2) == "acme/t1#2"
