"""P8: only the holder of a message's own, genuine, unexpired capability may answer for it."""

import base64
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import ack, deliver
from handlers.delivery import capability as capability_module
from handlers.delivery.capability import MAX_LENGTH, MIN_LATE_WINDOW, Capability, Keyring
from handlers.delivery.errors import Forbidden
from handlers.delivery.message import Record, Status, hash_target
from handlers.delivery.ports import Ending
from tests.fakes.events import Context, Reply, api_event, capability_in, reply_of, sqs_event
from tests.fakes.examples import examples
from tests.fakes.records import DAY, a_record, message_id
from tests.fakes.wire import Fault
from tests.fakes.world import START, MemoryWorld

KEYS = {"k1": b"the first key", "k2": b"the second key", "other": b"a key of another stack"}
ID, TARGET, EXPIRY = message_id(1), "https://device.example/inbox", START + DAY
LASTS = EXPIRY + MIN_LATE_WINDOW * 1000


def keyring(*key_ids: str) -> Keyring:
    return Keyring(key_ids or ("k1",), KEYS.__getitem__)


GENUINE = keyring().sign(ID, TARGET, EXPIRY)


def refused(text: str, ring: Keyring | None = None, now: int = START) -> bool:
    try:
        (ring or keyring()).verify(text, now)
    except Forbidden:
        return True
    return False


class TestKeyring:
    def test_a_genuine_capability_says_what_it_is_for(self) -> None:
        expected = Capability(ID, hash_target(TARGET), LASTS)
        assert keyring().verify(GENUINE, START) == expected

    def test_it_fits_urls_as_it_is(self) -> None:
        assert len(GENUINE) <= MAX_LENGTH
        assert set(GENUINE) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")

    def test_it_outlives_its_message_by_the_late_window_and_no_longer(self) -> None:
        assert MIN_LATE_WINDOW >= 14 * 86_400
        assert not refused(GENUINE, now=LASTS - 1)
        assert refused(GENUINE, now=LASTS)

    @pytest.mark.parametrize("length", range(len(GENUINE)))
    def test_truncated_anywhere_it_is_refused(self, length: int) -> None:
        assert refused(GENUINE[:length])

    @pytest.mark.parametrize("position", range(len(GENUINE)))
    def test_with_any_character_changed_it_is_refused(self, position: int) -> None:
        for other in "A_.9":
            if GENUINE[position] != other:
                assert refused(GENUINE[:position] + other + GENUINE[position + 1 :])

    @pytest.mark.parametrize(
        "text",
        ["", ".", "..", "...", "k1..", "k1.a.b", "k1.é.é", "é", "\ud800.a.b", "\x00", GENUINE + ".", "." + GENUINE],
    )
    def test_what_is_no_capability_is_refused(self, text: str) -> None:
        assert refused(text)

    @pytest.mark.parametrize("suffix", ["=", "==", "A", "\n", " ", "%", "A" * 10_000])
    def test_one_capability_has_one_spelling(self, suffix: str) -> None:
        key_id, body, mac = GENUINE.split(".")
        assert refused(f"{key_id}.{body}.{mac}{suffix}")
        assert refused(f"{key_id}.{body}{suffix}.{mac}")

    def test_the_bits_that_base64_ignores_are_no_second_spelling(self) -> None:
        key_id, body, mac = GENUINE.split(".")
        raw = base64.urlsafe_b64decode(mac + "=")
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        twins = [mac[:-1] + c for c in alphabet if c != mac[-1] and base64.urlsafe_b64decode(mac[:-1] + c + "=") == raw]
        assert twins
        assert all(refused(f"{key_id}.{body}.{twin}") for twin in twins)

    def test_forged_with_another_key_it_is_refused(self) -> None:
        forged = keyring("other").sign(ID, TARGET, EXPIRY)
        _, body, mac = forged.split(".")
        assert refused(forged)
        assert refused(f"k1.{body}.{mac}")

    def test_the_key_id_is_part_of_what_is_signed(self) -> None:
        _, body, mac = GENUINE.split(".")
        same_key = Keyring(("k1", "k2"), lambda _: KEYS["k1"])
        assert refused(f"k2.{body}.{mac}", same_key)

    def test_body_and_mac_of_two_capabilities_make_none(self) -> None:
        mine, other = GENUINE.split("."), keyring().sign(message_id(2), TARGET, EXPIRY).split(".")
        assert refused(f"k1.{mine[1]}.{other[2]}")
        assert refused(f"k1.{other[1]}.{mine[2]}")

    def test_the_first_key_signs_and_a_retired_one_still_verifies(self) -> None:
        rotated = keyring("k2", "k1")
        assert rotated.sign(ID, TARGET, EXPIRY).startswith("k2.")
        assert not refused(GENUINE, rotated)
        assert refused(GENUINE, keyring("k2"))

    def test_macs_are_compared_in_constant_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compared: list[tuple[bytes, bytes]] = []

        class Spy:
            digest = staticmethod(hmac.digest)

            @staticmethod
            def compare_digest(one: bytes, other: bytes) -> bool:
                compared.append((one, other))
                return hmac.compare_digest(one, other)

        monkeypatch.setattr(capability_module, "hmac", Spy)
        assert not refused(GENUINE)
        key_id, body, mac = GENUINE.split(".")
        assert refused(f"{key_id}.{body}.{mac[::-1]}") or mac == mac[::-1]
        assert compared
        assert all(len(expected) == 32 for _, expected in compared)

    @examples(300)
    @given(st.text(max_size=200) | st.tuples(*[st.text(max_size=60)] * 3).map(".".join))
    def test_nothing_made_up_is_taken_and_nothing_else_is_raised(self, text: str) -> None:
        assert refused(text) or text == GENUINE


@pytest.fixture
def delivered(world: MemoryWorld) -> Record:
    """A message whose first attempt was made, with the capability in its parcel."""
    world.table.put(a_record())
    queue = world.channel_queues["webhook"]
    queue.send(json.dumps({"v": 1, "id": ID, "attempt": 1, "base": 0}))
    assert deliver.handler(sqs_event(queue, queue.receive()), Context()) == {"batchItemFailures": []}
    world.wire.calls.clear()
    return world.table.rows[ID].record


def send(capability: str, route: str = "ack", to: str = ID, method: str = "POST", **event: Any) -> Reply:
    body = {"reason": "no"} if route == "nack" else None
    resource = f"/messages/{{id}}/{route}"
    query = {"cap": capability} if capability else None
    return reply_of(
        ack.handler(api_event(method, resource, body, path={"id": to}, query=query, caller=None, **event), None)
    )


class TestOverTheApi:
    BAD = (
        "",
        GENUINE[:-1],
        GENUINE.replace("k1.", "k9."),
        keyring("other").sign(ID, TARGET, EXPIRY),
        keyring("other").sign(ID, TARGET, EXPIRY).replace("other.", "k1."),
        Keyring(("k1",), lambda _: b"a key of k1").sign(message_id(2), TARGET, EXPIRY),
        Keyring(("k1",), lambda _: b"a key of k1").sign(ID, TARGET, START - MIN_LATE_WINDOW * 1000),
    )
    NAMES = ("none", "truncated", "unknown key", "foreign key", "forged", "another message's", "expired")

    @pytest.mark.parametrize("route", ["ack", "nack"])
    @pytest.mark.parametrize("bad", BAD, ids=NAMES)
    @pytest.mark.usefixtures("delivered")
    def test_p8_every_bad_capability_gets_the_same_403_and_touches_nothing(
        self, world: MemoryWorld, route: str, bad: str
    ) -> None:
        before = dict(world.table.rows)
        reply = send(bad, route)
        assert (reply.status, reply.headers["content-type"]) == (403, "application/problem+json")
        assert reply.json == send("x", route, to=message_id(404)).json
        assert ID not in reply.text
        assert world.table.rows == before
        assert not [call for call in world.wire.calls if not call.startswith("secretsmanager.")]

    def test_p8_the_capability_in_the_parcel_acks(self, world: MemoryWorld, delivered: Record) -> None:
        (parcel,) = world.target.parcels
        reply = send(capability_in(parcel.ack_url))
        assert (reply.status, reply.json) == (200, {"id": ID, "status": "DELIVERED", "late": False})
        assert world.table.rows[delivered.id].record.status is Status.DELIVERED

    @pytest.mark.usefixtures("delivered")
    def test_p8_it_may_come_in_the_header(self, world: MemoryWorld) -> None:
        capability = capability_in(world.target.parcels[0].nack_url)
        reply = send("", "nack", headers={"Until-Ack-Capability": capability})
        assert (reply.status, reply.json["status"]) == (200, "REJECTED")

    @pytest.mark.usefixtures("delivered")
    def test_p8_a_message_with_another_target_is_not_acked(self, world: MemoryWorld) -> None:
        mine = Keyring(("k1",), lambda _: b"a key of k1").sign(ID, "https://elsewhere.example", EXPIRY)
        for route in ("ack", "nack"):
            assert send(mine, route).status == 403
        assert world.table.rows[ID].record.open

    @pytest.mark.usefixtures("delivered")
    def test_p8_a_get_never_acks_and_shows_a_button_only_to_the_holder(self, world: MemoryWorld) -> None:
        capability = capability_in(world.target.parcels[0].ack_url)
        for _ in range(3):
            shown = send(capability, method="GET")
            assert shown.status == 200
            assert 'method="post"' in shown.text
            assert capability in shown.text
        refused_page = send(capability[:-2], method="GET")
        assert (refused_page.status, "form" in refused_page.text) == (403, False)
        assert world.table.rows[ID].record.open

    @pytest.mark.usefixtures("delivered")
    def test_p8_in_a_bulk_each_capability_is_judged_by_itself(self, world: MemoryWorld) -> None:
        good = capability_in(world.target.parcels[0].ack_url)
        gone = Keyring(("k1",), lambda _: b"a key of k1").sign(message_id(9), TARGET, EXPIRY)
        body = {"acks": [{"capability": c} for c in (good[:-1], good, "x", good, gone)]}
        reply = reply_of(ack.handler(api_event("POST", "/acks", body, caller=None), None))
        assert reply.status == 200
        assert [(r["index"], r["code"]) for r in reply.json["results"]] == [
            (0, 403),
            (1, 200),
            (2, 403),
            (3, 200),
            (4, 404),
        ]

    @pytest.mark.usefixtures("delivered")
    def test_a_key_that_cannot_be_read_is_a_503_not_a_403(self, world: MemoryWorld) -> None:
        world.wire.faults.append(Fault("secretsmanager.get", "throttle"))
        capability = capability_in(world.target.parcels[0].ack_url)
        assert send(capability).status == 503
        assert send(capability).status == 200

    @pytest.mark.usefixtures("delivered")
    def test_no_capability_and_no_payload_is_ever_logged(self, world: MemoryWorld) -> None:
        capability = capability_in(world.target.parcels[0].ack_url)
        send(capability)
        send(capability[:-1])
        said = repr(world.log.lines) + repr(world.told.events) + repr(world.told.alerts)
        assert capability[:20] not in said
        assert "open the door" not in said

    def test_a_late_ack_is_taken_for_as_long_as_the_capability_lasts(
        self, world: MemoryWorld, delivered: Record
    ) -> None:
        capability = capability_in(world.target.parcels[0].ack_url)
        ending = Ending(Status.EXPIRED, delivered.expires_at, "late", untold_until=1, sweep_at=1, ttl=1)
        world.table.end(ID, ending)
        world.now = LASTS - 1
        assert send(capability).json == {"id": ID, "status": "EXPIRED", "late": True}
        world.now = LASTS
        assert send(capability).status == 403
