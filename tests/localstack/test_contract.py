"""What the whole run has seen of the API's contract. Runs after everything that speaks to the API."""

from tests.localstack.kit import Kit

UNREACHABLE = {429, 500, 502, 504}
"""Answers of the gateway's own, and of faults that no test can make on purpose."""


def test_every_documented_answer_was_seen(kit: Kit) -> None:
    contract = kit.api.contract
    expected = {answer for answer in contract.documented() if answer[2] not in UNREACHABLE}
    assert expected, "the contract names its answers"
    missing = sorted(expected - contract.seen)
    assert not missing, f"no test got these answers: {missing}"
