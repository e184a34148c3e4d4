"""Secrets from Secrets Manager, kept for as long as the execution environment lives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from handlers.aws.errors import mapped

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient


@dataclass(frozen=True, slots=True)
class Secrets:
    """Secrets by name. A secret never changes: a rotation adds a name (ADR 0005), so none is re-read."""

    client: "SecretsManagerClient"
    arns: Mapping[str, str]
    _kept: dict[str, bytes] = field(default_factory=dict)

    def get(self, name: str) -> bytes:
        """The bytes of a secret. Raises `Unavailable`."""
        if name not in self._kept:
            with mapped("secretsmanager"):
                answer = self.client.get_secret_value(SecretId=self.arns[name])
            self._kept[name] = answer["SecretString"].encode()
        return self._kept[name]
