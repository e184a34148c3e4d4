from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from support import Stack, unique


@pytest.fixture(scope="module")
def states(stack: Stack) -> Any:
    return stack.client("stepfunctions")


def test_an_activitys_tags_are_listed(states: Any) -> None:
    plain = states.create_activity(name=unique("activity"))["activityArn"]
    assert states.list_tags_for_resource(resourceArn=plain)["tags"] == []
    arn = states.create_activity(name=unique("activity"), tags=[{"key": "a", "value": "1"}])["activityArn"]
    states.tag_resource(resourceArn=arn, tags=[{"key": "b", "value": "2"}])
    states.untag_resource(resourceArn=arn, tagKeys=["a"])
    assert states.list_tags_for_resource(resourceArn=arn)["tags"] == [{"key": "b", "value": "2"}]


def test_what_does_not_exist_has_no_tags(states: Any) -> None:
    with pytest.raises(ClientError) as error:
        states.list_tags_for_resource(resourceArn="arn:aws:states:us-east-1:000000000000:activity:none")
    assert error.value.response["Error"]["Code"] == "ResourceNotFound"
