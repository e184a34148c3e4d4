"""Tags of Step Functions activities, which LocalStack's provider does not know."""

from __future__ import annotations

from typing import Any

from localstack.aws.api import RequestContext

from until_ack_localstack.importing import when_imported

_TAGS = "until_ack_tags"


def install() -> None:
    """Let an activity be tagged, and its tags be listed."""
    when_imported("localstack.services.stepfunctions.provider", _change)


def _change(module: Any) -> None:
    provider_class = module.StepFunctionsProvider
    create, tag = provider_class.create_activity, provider_class.tag_resource
    untag, list_tags = provider_class.untag_resource, provider_class.list_tags_for_resource

    def create_activity(self: Any, context: RequestContext, name: str, tags: Any = None, **kwargs: Any) -> Any:
        result = create(self, context, name, tags=tags, **kwargs)
        activity = _activity(self, context, result["activityArn"])
        if not hasattr(activity, _TAGS):
            setattr(activity, _TAGS, {entry["key"]: entry.get("value", "") for entry in tags or ()})
        return result

    def tag_resource(self: Any, context: RequestContext, resource_arn: str, tags: Any, **kwargs: Any) -> Any:
        activity = _activity(self, context, resource_arn)
        if activity is None:
            return tag(self, context, resource_arn, tags, **kwargs)
        getattr(activity, _TAGS).update({entry["key"]: entry.get("value", "") for entry in tags})
        return {}

    def untag_resource(self: Any, context: RequestContext, resource_arn: str, tag_keys: Any, **kwargs: Any) -> Any:
        activity = _activity(self, context, resource_arn)
        if activity is None:
            return untag(self, context, resource_arn, tag_keys, **kwargs)
        for key in tag_keys:
            getattr(activity, _TAGS).pop(key, None)
        return {}

    def list_tags_for_resource(self: Any, context: RequestContext, resource_arn: str, **kwargs: Any) -> Any:
        activity = _activity(self, context, resource_arn)
        if activity is None:
            return list_tags(self, context, resource_arn, **kwargs)
        return {"tags": [{"key": key, "value": value} for key, value in getattr(activity, _TAGS).items()]}

    for replacement in (create_activity, tag_resource, untag_resource, list_tags_for_resource):
        setattr(provider_class, replacement.__name__, replacement)


def _activity(provider: Any, context: RequestContext, arn: str) -> Any:
    return provider.get_store(context).activities.get(arn)
