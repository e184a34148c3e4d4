from __future__ import annotations

from pathlib import Path

from support import ACCOUNT, REGION, Functions, Stack, eventually, unique


def test_a_rule_calls_its_function_on_schedule(stack: Stack, functions: Functions, tmp_path: Path) -> None:
    file = tmp_path / "called"
    function = functions.make(
        f"def handler(event, context):\n    open({str(file)!r}, 'w').write(event['detail-type'])\n"
    )
    events, rule = stack.client("events"), unique("rule")
    arn = events.put_rule(Name=rule, ScheduleExpression="rate(1 minute)")["RuleArn"]
    permission = {"Action": "lambda:InvokeFunction", "Principal": "events.amazonaws.com", "SourceArn": arn}
    stack.client("lambda").add_permission(FunctionName=function, StatementId="rule", **permission)
    target = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"
    events.put_targets(Rule=rule, Targets=[{"Id": "function", "Arn": target}])
    eventually(file.exists, 120)
    assert file.read_text() == "Scheduled Event"
