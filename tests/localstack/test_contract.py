"""What the whole run has seen of the API's contract. Runs after everything that speaks to the API."""

from tests.localstack.kit import Kit

OF_THE_GATEWAY = {429, 500}
"""Throttling, which LocalStack does not do, and faults that nobody knows of yet."""
UNREACHABLE = {
    # What fails behind these is said item by item, and the page reads nothing.
    ("POST", "/messages/batch", 503),
    ("POST", "/acks", 503),
    ("GET", "/messages/{id}/ack", 503),
}


def test_every_documented_answer_was_seen(kit: Kit) -> None:
    contract = kit.api.contract
    expected = {answer for answer in contract.documented() - UNREACHABLE if answer[2] not in OF_THE_GATEWAY}
    assert expected, "the contract names its answers"
    # One function that died is like another.
    missing = sorted(answer for answer in expected - contract.seen if answer[2] != 502)
    assert any(status == 502 for _, _, status in contract.seen)
    assert not missing, f"no test got these answers: {missing}"
