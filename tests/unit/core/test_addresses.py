"""Which addresses may be called: a corpus of what must never be, and of what must."""

from __future__ import annotations

import ipaddress

import pytest

from apps.core.addresses import FORBIDDEN_PORTS, UnsafeUrl, check_url, host_problem, is_open, judge, read

LOOPBACK = ["127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST", "foo.localhost", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0", "0.0.0.0", "[::]"]  # fmt: skip
OTHER_NOTATIONS = ["2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "0x7f.1", "127.0.0.1.",
                   "00000127.0.0.1", "1.1.1.1.1", "999.1.1.1", "1.2.3.0x4"]  # fmt: skip
METADATA = ["169.254.169.254", "[fe80::1]", "[fe80::1%25eth0]", "[::ffff:169.254.169.254]", "169.254.0.1", "[fd00:ec2::254]",
            "metadata.google.internal", "100.100.100.200", "192.0.0.192", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]"]  # fmt: skip
PRIVATE = ["10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "100.64.0.1", "100.127.255.255", "198.18.0.1",
           "192.0.2.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.88.99.1",
           "[fc00::1]", "[fd12:3456::1]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]", "[2001::1]", "[100::1]", "[64:ff9b:1::1]",
           "printer.local", "nas.lan", "db.internal", "git.corp", "wiki", "router.home.arpa", "x.onion"]  # fmt: skip
WRITTEN_ODDLY = [
    "", "x", 7, None, "//93.184.216.34/", "http:/93.184.216.34/", "http:///path", "http://", "http://:80/", "http:93.184.216.34",
    "http://user@93.184.216.34/", "http://user:secret@93.184.216.34/", "http://93.184.216.34@127.0.0.1/", "http://127.0.0.1#@93.184.216.34/",
    "http://93.184.216.34#", "http://93.184.216.34/#x", "http://93.184.216.34\\@127.0.0.1/", "http://127.0.0.1\\.example.com/",
    "http://93.184.216.34/a b", "http://93.184.216.34/\r\nHost: x", "http://93.184.216.34\t/", " http://93.184.216.34/", "http://93.184.216.34/\x00",
    "http://ex%61mple.com/", "http://127.0.0.1%2f@example.com/", "http://①②⑦.⓪.⓪.①/", "http://１２７.0.0.1/", "http://exämple.com/",
    "http://127。0。0。1/", "http://ⓛocalhost/", "http://example.com\u200b/", "http://example..com/", "http://.example.com/", "http://-x.com/",
    "http://example.com./", "http://[::1/", "http://::1/", "http://[127.0.0.1]/", "http://[example.com]/", "http://example.com:/",
    "http://example.com:0/", "http://example.com:65536/", "http://example.com:080a/", "http://example.com:-1/",
    "http://" + "a" * 64 + ".com/",
    "http://example.com/" + "a" * 2048, "HTTP://example.com/", "http://example.com/<script>", "http://exa_mple\n.com/",
]  # fmt: skip
OTHER_SCHEMES = ["file:///etc/passwd", "gopher://example.com/_x", "ftp://example.com/", "unix:///run/redis.sock", "dict://example.com:11211/",
                 "http+unix://%2Frun%2Fx/", "ldap://example.com/", "jar:http://example.com!/", "data:text/plain,x", "javascript:alert(1)",
                 "ws://example.com/", "nats://example.com:4222", "redis://example.com/", "view-source:http://example.com/"]  # fmt: skip
FINE = ["http://example.com", "https://example.com/", "https://example.com:8443/a/b?c=d&e=%20", "http://93.184.216.34/", "http://8.8.8.8:8080/x",
        "https://[2606:2800:220:1:248:1893:25c8:1946]/", "https://xn--exmple-cua.com/", "https://a.b.c.example.co.uk/x;y=z",
        "https://hooks.example.com/v1/@me/(x)", "http://exa_mple.com/", "https://example.com?x=1", "http://1e100.net/"]  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_open(settings):
    settings.OUTBOUND_ALLOW = []


@pytest.mark.parametrize("host", LOOPBACK + OTHER_NOTATIONS + METADATA + PRIVATE)
@pytest.mark.parametrize("around", ["http://{}/", "https://{}:8443/hook?x=1"])
def test_a_host_off_the_public_internet_is_refused_however_it_is_written(host, around):
    with pytest.raises(UnsafeUrl):
        check_url(around.format(host))


@pytest.mark.parametrize("url", WRITTEN_ODDLY + OTHER_SCHEMES)
def test_what_two_readers_could_take_differently_is_refused(url):
    with pytest.raises(UnsafeUrl) as caught:
        check_url(url, field="value")
    (problem,) = caught.value.problems
    assert problem.field == "value" and problem.message and caught.value.status == 422


@pytest.mark.parametrize("port", [22, 25, 53, 110, 4222, 6379, 27017, 5432, 2375, 9200, 11211])
def test_ports_of_other_services_are_refused_in_public_too(port):
    with pytest.raises(UnsafeUrl, match=f"port {port}"):
        check_url(f"https://example.com:{port}/")
    assert port in FORBIDDEN_PORTS or port < 1024


@pytest.mark.parametrize("url", FINE)
def test_public_addresses_are_fine(url):
    check_url(url)


def test_a_url_is_taken_apart_for_whoever_calls_it():
    target = read("https://Hooks.Example.com:8443/a?b=c")
    assert (target.scheme, target.host, target.port, target.path) == ("https", "hooks.example.com", 8443, "/a?b=c")
    assert target.authority == "hooks.example.com:8443" and read("http://example.com?x").path == "/?x"
    assert read("https://[2606:2800:220::1]").authority == "[2606:2800:220::1]"


def test_the_operator_and_the_org_must_both_name_a_private_host(settings):
    url = "http://10.1.2.3:8080/x"
    one, other = ["10.1.2.3:8080"], ["10.1.2.3:8081"]
    for theirs, mine in [([], one), (one, []), (one, other), (["10.1.2.4"], ["10.1.2.3"])]:
        settings.OUTBOUND_ALLOW = theirs
        with pytest.raises(UnsafeUrl):
            check_url(url, allow=mine)
    for theirs, mine in [(["10.1.2.3"], ["10.1.2.3:8080"]), (["10.1.2.3:8080"], ["10.1.2.3"]), (["10.1.2.3"], ["10.1.2.3"])]:
        settings.OUTBOUND_ALLOW = theirs
        check_url(url, allow=mine)


def test_a_host_that_is_open_does_not_open_its_database(settings):
    settings.OUTBOUND_ALLOW = ["127.0.0.1"]
    with pytest.raises(UnsafeUrl):
        check_url("http://127.0.0.1:6379/", allow=["127.0.0.1"])
    settings.OUTBOUND_ALLOW = ["127.0.0.1:6379"]  # named with its very port, it is meant
    check_url("http://127.0.0.1:6379/", allow=["127.0.0.1:6379"])


def test_entries_of_an_allow_list_are_looked_at_too(settings):
    settings.OUTBOUND_ALLOW = ["[::1]", "policies.corp:8443"]
    for fine in ("[::1]:8080", "[::1]", "Policies.corp:8443"):
        assert host_problem(fine) is None and is_open(fine)
    assert not is_open("policies.corp") and not is_open("policies.corp:8444") and not is_open("x")
    for wrong in ("", "*", "http://x", "a b", "x:0", "x:99999", "10.0.0.0/8", 7, None, "x" * 300):
        assert host_problem(wrong)


@pytest.mark.parametrize("text", ["8.8.8.8", "93.184.216.34", "2606:2800:220:1::", "2002:808:808::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_inside_others_are_judged_by_what_they_carry(text):
    judge(ipaddress.ip_address(text))
