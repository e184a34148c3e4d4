"""Mail through SES."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.config import Config
from botocore.exceptions import ClientError

from handlers.aws.errors import code_of, mapped
from handlers.delivery.errors import Refused

if TYPE_CHECKING:
    from mypy_boto3_ses import SESClient

CONFIG = Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})
"""For the SES client. Nothing is retried within an attempt, which has seconds; the schedule retries."""

# SES's code, and the word that an attempt's record shows.
_REFUSALS = {
    "MessageRejected": "rejected",
    "MailFromDomainNotVerifiedException": "sender_unverified",
    "TemplateDoesNotExist": "template_missing",
    "ConfigurationSetDoesNotExist": "configuration_missing",
    "AccountSendingPausedException": "sending_paused",
    "ConfigurationSetSendingPausedException": "sending_paused",
    "InvalidParameterValue": "invalid",
    "ValidationError": "invalid",
}


@dataclass(frozen=True, slots=True)
class SesMail:
    """`handlers.channels.email.MailPort` over SES v1."""

    client: "SESClient"

    def send_templated(self, sender: str, recipient: str, template: str, data: dict[str, str]) -> str:
        """Send one mail and return its id; raises Throttled, Refused or Unavailable."""
        with mapped("ses"):
            try:
                answer = self.client.send_templated_email(
                    Source=sender,
                    Destination={"ToAddresses": [recipient]},
                    Template=template,
                    TemplateData=json.dumps(data, ensure_ascii=False),
                )
            except ClientError as error:
                if code_of(error) in _REFUSALS:
                    raise Refused("ses", _REFUSALS[code_of(error)]) from error
                raise
        return answer["MessageId"]
