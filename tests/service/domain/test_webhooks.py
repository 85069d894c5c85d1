"""What is signed as Standard Webhooks says, when it is tried again, and where it may go."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest

from service.domain.webhooks import (
    Delivery,
    DeliveryState,
    Due,
    Webhook,
    check_url,
    is_public,
    new_secret,
    retry_in_s,
    secret_bytes,
    signed_headers,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT = datetime(2026, 1, 1, tzinfo=UTC)


def due(body: str, message_id: str) -> Due:
    hook = Webhook(
        id="hook_1", url="https://a.example", types=[], secret=SECRET, created_by=None, created_at=AT
    )
    message = Delivery(
        id=message_id, webhook_id="hook_1", run_id=None, type="webhook.test", body=body, attempts=1,
        state=DeliveryState.WAITING, created_at=AT, due_at=AT, delivered_at=None, status=None, error=None,
        response=None, traceparent="00-a", tracestate=None,
    )  # fmt: skip
    return Due(delivery=message, webhook=hook, age_s=0.0)


def test_a_signature_is_that_of_the_published_example() -> None:
    """The vector in the specification's own libraries: secret, id, time and body give this signature."""
    headers = signed_headers(due('{"test": 2432232314}', "msg_p5jXN8AQM9LWM0D4loKWxJek"), 1614265330)
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == (
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "1614265330",
    )
    assert (headers["traceparent"], "tracestate" in headers) == ("00-a", False)


def test_a_signature_is_that_of_its_definition_for_any_text() -> None:
    body = '{"name":"Übung"}'
    headers = signed_headers(due(body, "msg_1"), 7)
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    expected = hmac.new(key, f"msg_1.7.{body}".encode(), hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()


def test_a_secret_is_new_each_time_and_long_enough() -> None:
    assert len(secret_bytes(new_secret())) == 32
    assert new_secret() != new_secret()


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "x" * 40, "whsec_" + "A" * 8, "whsec_ä", "whsec_" + "A" * 120, "whsec_A"]
)
def test_another_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_ and base64"):
        secret_bytes(secret)


def test_it_is_tried_later_and_later_for_a_day() -> None:
    age_s, delays = 0.0, []
    while (delay_s := retry_in_s(len(delays) + 1, age_s, 0.5)) is not None:
        delays.append(delay_s)
        age_s += delay_s
    assert delays[:3] == [5.0, 20.0, 80.0]
    assert max(delays) == 4 * 3600
    assert 18 * 3600 < age_s <= 24 * 3600
    assert 8 < len(delays) < 20
    assert retry_in_s(1, 0.0, 0.0) == pytest.approx(4.0)
    assert retry_in_s(1, 0.0, 0.999) == pytest.approx(6.0, abs=0.01)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.1.1",
        "255.255.255.255", "192.0.2.1", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808", "2002:7f00:1::", "2001:db8::1",
        "fec0::1", "feff::1", "192.0.0.8", "192.0.0.170", "192.88.99.1", "198.18.0.1", "2001::1", "2001:10::1",
        "3fff::1", "5f00::1", "100::1", "64:ff9b:1::1", "::8.8.8.8", "::ffff:192.0.0.8", "::ffff:0:0", "4000::1",
        "ff0e::1",
    ],
)  # fmt: skip
def test_what_is_not_of_the_public_internet_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8"]
)
def test_what_is_public_is(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://a.example/x", "https"), ("ftp://a.example", "https"), ("https://", "host"), ("a.example", "https"),
        ("https://user:pw@a.example", "user"), ("https://a.example/#x", "fragment"), ("https://a.example:0", "port"),
        ("https://a.example:x", "Port"), ("https://127.0.0.1/", "private"), ("https://[::1]:8443/", "private"),
        ("https://localhost/", "private"), ("https://x.localhost/", "private"), ("https://169.254.169.254/", "private"),
        ("https://a.example/\n", "spaces"), ("https://a.example/\x7f", "spaces"), ("https://a..b/", "neither"),
        ("https://[v1.a]/", "address"), ("https://[8.8.8.8]/", "address"), ("https://[fe80::1%25eth0]/", "address"),
        ("https://.a/", "neither"), ("https://-a.b/", "neither"), (f"https://{'a' * 70}.example/", "neither"),
        (f"https://{'a.' * 127}a/", "neither"), ("https://a%41/", "neither"), ("https://a\\b/", "neither"),
        ("https://2130706433/", "neither"), ("https://127.1/", "neither"), ("https://0x7f.0.0.1/", "neither"),
        ("https://8.8.8.8./", "neither"), ("https://[fec0::1]/", "private"), ("https://192.0.0.8/", "private"),
        ("https://localhost./", "private"), ("https://@a.example/", "user"), ("https://a.example/#", "fragment"),
        ("https://ä.example/", "ASCII"), ("http://inside/", "https"),
    ],
)  # fmt: skip
def test_an_address_that_nothing_may_be_sent_to_is_refused(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_url(url, {"other"})


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example",
        "https://8.8.8.8:444/x?y=1",
        "http://inside:80/x",
        "https://inside/",
        "https://a_b.c-d.example./",
        "https://[2606:4700::1]/",
        "https://7.example/",
    ],
)
def test_public_and_listed_addresses_pass(url: str) -> None:
    check_url(url, {"inside"})
