import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobplatform_sdk import subjects

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
org_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(ids)
def test_any_id_survives_the_way_to_a_token_and_back(text):
    assert subjects.decode(subjects.encode(text)) == text


@given(ids)
def test_a_token_is_never_more_than_one_token(text):
    token = subjects.encode(text)
    assert token.isascii()
    assert not set(token) & set(" .*>\r\n\t/\\:")


@given(ids, ids)
def test_two_ids_never_share_a_token(one, other):
    assert (subjects.encode(one) == subjects.encode(other)) == (one == other)


@pytest.mark.parametrize("token", ["", "a.b", "a*", ">", "a b", "=4", "=41", "=e9", "=C3", "é", "a\n", "=2e", "a=2E="])
def test_what_encode_cannot_have_written_is_refused(token):
    with pytest.raises(ValueError):
        subjects.decode(token)


@pytest.mark.parametrize("text", ["", "\ud800"])
def test_an_id_without_utf8_bytes_has_no_token(text):
    with pytest.raises(ValueError):
        subjects.encode(text)


@given(org_ids, ids.filter(lambda text: len(subjects.encode(text)) < 200))
def test_an_agents_token_names_its_org_and_subject(org_id, subject_id):
    assert subjects.agent_of(subjects.agent_token(org_id, subject_id)) == (org_id, subject_id)


@pytest.mark.parametrize(("org_id", "subject_id"), [("", "a"), ("a", ""), ("a:b", "c"), ("acme", "é" * 100)])
def test_a_pair_that_cannot_be_told_apart_or_is_too_long_has_no_agent_token(org_id, subject_id):
    with pytest.raises(ValueError):
        subjects.agent_token(org_id, subject_id)


@pytest.mark.parametrize("token", ["acme", "=3Aagent", "acme=3A"])
def test_a_token_without_both_halves_is_no_agent(token):
    with pytest.raises(ValueError):
        subjects.agent_of(token)


@given(org_ids, ids, ids.filter(lambda text: len(subjects.encode(text)) < 200))
def test_a_report_subject_says_task_and_sender(org_id, task_id, subject_id):
    subject = subjects.report(org_id, task_id, subjects.agent_token(org_id, subject_id))
    assert len(subject.split(".")) == 5
    assert subjects.parse_report(subject) == subjects.ReportSubject(
        org_id=org_id, task_id=task_id, sender_org_id=org_id, sender_subject_id=subject_id
    )


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "tasks",
        "tasks.a.b.events",
        "tasks.a.b.events.x",
        "tasks.a.b.other.acme=3Ax",
        "agents.a.b.events.acme=3Ax",
        "tasks.a.b.c.events.acme=3Ax",
    ],
)
def test_other_subjects_are_no_reports(subject):
    with pytest.raises(ValueError):
        subjects.parse_report(subject)


@pytest.mark.parametrize("name", ["*", ">", "a.>", "x.tasks", "a b", "\r\nPUB x 0\r\n", "..", "$JS.API.>"])
def test_an_id_cannot_widen_the_subject_it_is_put_in(name):
    token = subjects.agent_token("acme", name)
    for subject in (subjects.deliveries(token), subjects.control(token), subjects.heartbeat(token), subjects.bids(token)):
        assert subjects.parse_agent(subject) == token
        assert not set(subject) & set("*> \r\n$")
    assert len(subjects.news("acme", name).split(".")) == 3


@pytest.mark.parametrize("name", ["ada", "acme:ada", "acme.agents.ada", "é"])
def test_an_agent_of_another_system_hears_the_subject_that_is_its_id(name):
    assert subjects.plain(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "$JS.API.STREAM.DELETE.DELIVERIES",
        "_INBOX.x",
        "tasks.a.b.events.c",
        "agents.x.tasks",
        "events.a",
        "a b",
        "a.*",
        ">",
        "a..b",
        ".",
        "a\r\nPUB",
    ],
)
def test_an_id_that_would_reach_somebody_else_is_encoded(name):
    assert subjects.decode(subjects.plain(name)) == name
