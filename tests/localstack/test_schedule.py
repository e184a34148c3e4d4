"""The rule that runs the sweep: what Terraform made of it, on LocalStack's own scheduler."""

import pytest

from tests.localstack.kit import Kit, eventually

pytestmark = pytest.mark.together("rough")


def test_the_rule_runs_the_sweep(kit: Kit) -> None:
    events, name = kit.clients["events"], kit.functions["sweep"]
    rule = events.describe_rule(Name=name)
    assert rule["State"] == "ENABLED"
    targets = events.list_targets_by_rule(Rule=name)["Targets"]
    mark = kit.log.mark()
    # The test stack's own rate is a day. LocalStack schedules a rule anew when it gets its targets.
    events.put_rule(Name=name, ScheduleExpression="rate(1 minute)", State="ENABLED")
    events.put_targets(Rule=name, Targets=targets)
    try:
        eventually(
            lambda: [
                r
                for r in kit.log.since(mark)
                if r["operation"] == "Invoke" and str(r.get("for", "")).endswith(f":rule/{name}")
            ],
            within=100,
            what="a run of the sweep by its rule",
        )
    finally:
        events.put_rule(Name=name, ScheduleExpression=rule["ScheduleExpression"], State="ENABLED")
        events.put_targets(Rule=name, Targets=targets)
    ran = eventually(
        lambda: [r for r in kit.log.since(mark) if r["operation"] == "Invocation" and r["function"] == name],
        what="its end",
    )
    assert [r["error"] for r in ran] == [None] * len(ran)
