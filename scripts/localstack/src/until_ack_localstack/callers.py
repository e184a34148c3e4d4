"""Who makes a request.

The access key of every execution environment is its own, so a key leads to a function and its process. Other keys are
those of assumed roles and IAM users, which moto knows, or stand for the account's root user, as `test` does.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from localstack.aws.accounts import get_account_id_from_access_key_id

USER = "user"

_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/")


@dataclass(frozen=True)
class Environment:
    """An execution environment that holds credentials."""

    function: str
    pid: Callable[[], int | None]


@dataclass(frozen=True)
class Identity:
    """What AWS calls a caller identity, and the secret that its requests are signed with (None: any)."""

    account: str
    arn: str
    user_id: str
    secret: str | None

    @property
    def name(self) -> str:
        """The role's name, or `user` for anybody else."""
        return self.arn.split("/")[1] if ":assumed-role/" in self.arn else USER


_environments: dict[str, Environment] = {}
_lock = threading.Lock()


def register_environment(access_key: str, function: str, pid: Callable[[], int | None]) -> None:
    """Remember whose credentials these are."""
    with _lock:
        _environments[access_key] = Environment(function, pid)


def forget_environment(access_key: str) -> None:
    """The environment is gone."""
    with _lock:
        _environments.pop(access_key, None)


def environment_of(access_key: str | None) -> Environment | None:
    """Return the environment that holds this key."""
    with _lock:
        return _environments.get(access_key) if access_key else None


def access_key_of(headers: Mapping[str, str], query: Mapping[str, str] | None = None) -> str | None:
    """Return the access key that signed a request, in its header or in its query."""
    match = _CREDENTIAL.search(headers.get("Authorization") or "")
    if match:
        return match.group(1)
    presigned = (query or {}).get("X-Amz-Credential")
    return presigned.partition("/")[0] if presigned else None


def identity_of(access_key: str) -> Identity | None:
    """Return who holds the key, or None when nobody does."""
    from moto.iam.models import iam_backends
    from moto.sts.models import sts_backends

    account = get_account_id_from_access_key_id(access_key)
    role = sts_backends[account]["aws"].get_assumed_role_from_access_key(access_key)
    if role is not None:
        return Identity(account, role.arn, role.user_id, role.secret_access_key)
    for user in list(iam_backends[account]["aws"].users.values()):
        for key in user.access_keys:
            if key.access_key_id == access_key and key.status == "Active":
                return Identity(account, user.arn, user.id, key.secret_access_key)
    if access_key == "test":
        return Identity(account, f"arn:aws:iam::{account}:root", account, "test")
    if re.fullmatch(r"\d{12}", access_key):
        # LocalStack's way of naming an account: any secret goes with it.
        return Identity(account, f"arn:aws:iam::{account}:root", account, None)
    return None
