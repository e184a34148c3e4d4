from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from support import ACCOUNT, REGION, Functions, Stack, eventually, unique
from until_ack_localstack.api.openapi import iam_methods

ECHO = """
import json
def handler(event, context):
    found = {"identity": event["requestContext"]["identity"], "query": event["queryStringParameters"]}
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(found)}
"""
PROBLEM = '{"type":"urn:test:$context.error.responseType","title":$context.error.messageString}'


class Api:
    def __init__(self, stack: Stack, functions: Functions) -> None:
        function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{functions.make(ECHO)}"
        integration = {
            "type": "aws_proxy",
            "httpMethod": "POST",
            "uri": f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{function}/invocations",
        }
        route = {"responses": {}, "x-amazon-apigateway-integration": integration}
        signed = {**route, "security": [{"sigv4": []}]}
        scheme = {"type": "apiKey", "name": "Authorization", "in": "header", "x-amazon-apigateway-authtype": "awsSigv4"}
        content_type = {"gatewayresponse.header.Content-Type": "'application/problem+json'"}
        document = {
            "openapi": "3.0.1",
            "info": {"title": "test", "version": "1"},
            "components": {"securitySchemes": {"sigv4": scheme}},
            "paths": {"/items": {"post": signed}, "/items/{id}": {"get": signed}, "/items/{id}/ack": {"post": route}},
            "x-amazon-apigateway-gateway-responses": {
                "DEFAULT_4XX": {"responseParameters": content_type, "responseTemplates": {"application/json": PROBLEM}}
            },
        }
        client = stack.client("apigateway")
        self.id = client.create_rest_api(name=unique("api"))["id"]
        client.put_rest_api(restApiId=self.id, mode="overwrite", body=json.dumps(document).encode())
        client.create_deployment(restApiId=self.id, stageName="v1")
        self.url = f"{stack.url}/_aws/execute-api/{self.id}/v1"

    def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        keys: tuple[str, ...] = (),
        *,
        service: str = "execute-api",
        change: Callable[[dict[str, str]], None] = lambda _: None,
    ) -> tuple[int, dict[str, str], Any]:
        request = AWSRequest(method, self.url + path, data=body, headers={"content-type": "application/json"})
        if keys:
            SigV4Auth(Credentials(*keys), service, REGION).add_auth(request)
        headers = dict(request.headers)
        change(headers)
        try:
            opened = urllib.request.Request(self.url + path, body, headers, method=method)
            with urllib.request.urlopen(opened, timeout=30) as response:
                return response.status, dict(response.headers), json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), json.loads(error.read())


@pytest.fixture(scope="module")
def api(stack: Stack, functions: Functions) -> Api:
    return Api(stack, functions)


def test_an_unsigned_call_of_a_signed_route_is_refused(api: Api) -> None:
    status, headers, body = api.call("POST", "/items", b"{}")
    assert (status, headers["x-amzn-ErrorType"]) == (403, "MissingAuthenticationTokenException")
    assert headers["Content-Type"] == "application/problem+json"
    assert body == {"type": "urn:test:MISSING_AUTHENTICATION_TOKEN", "title": "Missing Authentication Token"}


def test_an_open_route_takes_everything(api: Api) -> None:
    status, _, body = api.call("POST", "/items/1/ack", b"{}")
    assert (status, body["identity"]["userArn"]) == (200, None)


def test_the_root_user_is_named(api: Api) -> None:
    status, _, body = api.call("POST", "/items", b"{}", ("test", "test"))
    identity = body["identity"]
    assert (status, identity["userArn"], identity["accountId"]) == (200, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT)
    assert (identity["accessKey"], identity["caller"]) == ("test", ACCOUNT)


def test_a_user_and_a_role_are_named(stack: Stack, api: Api) -> None:
    iam, user = stack.client("iam"), unique("user")
    iam.create_user(UserName=user)
    key = iam.create_access_key(UserName=user)["AccessKey"]
    identity = api.call("POST", "/items", b"{}", (key["AccessKeyId"], key["SecretAccessKey"]))[2]["identity"]
    assert identity["userArn"] == f"arn:aws:iam::{ACCOUNT}:user/{user}"
    session = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/producer", "RoleSessionName": "session"}
    assumed = stack.client("sts").assume_role(**session)["Credentials"]
    keys = (assumed["AccessKeyId"], assumed["SecretAccessKey"], assumed["SessionToken"])
    identity = api.call("POST", "/items", b"{}", keys)[2]["identity"]
    assert identity["userArn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/producer/session"
    assert identity["caller"].endswith(":session")


def test_odd_paths_and_queries_are_verified_as_they_were_signed(api: Api) -> None:
    status, _, body = api.call("GET", "/items/a%20b~c%2Fd?x=1&y=a%20b&z=%C3%A4", None, ("test", "test"))
    assert (status, body["query"]) == (200, {"x": "1", "y": "a b", "z": "ä"})


@pytest.mark.parametrize(
    ("keys", "service", "change", "error"),
    [
        (("test", "wrong"), "execute-api", lambda _: None, "InvalidSignatureException"),
        (("test", "test"), "s3", lambda _: None, "InvalidSignatureException"),
        (("AKIAAAAAAAAAAAAAAAAA", "x"), "execute-api", lambda _: None, "UnrecognizedClientException"),
        (
            ("test", "test"),
            "execute-api",
            lambda h: h.update({"Authorization": "Bearer x"}),
            "IncompleteSignatureException",
        ),
        (
            ("test", "test"),
            "execute-api",
            lambda h: h.update({"X-Amz-Date": "20200101T000000Z"}),
            "InvalidSignatureException",
        ),
    ],
)
def test_a_signature_that_does_not_hold_is_refused(
    api: Api, keys: tuple[str, ...], service: str, change: Callable[[dict[str, str]], None], error: str
) -> None:
    status, headers, body = api.call("POST", "/items", b"{}", keys, service=service, change=change)
    assert (status, headers["x-amzn-ErrorType"], body["type"]) == (403, error, "urn:test:INVALID_SIGNATURE")


def test_a_body_that_was_changed_is_refused(api: Api) -> None:
    signed = AWSRequest("POST", api.url + "/items", data=b'{"a":1}')
    SigV4Auth(Credentials("test", "test"), "execute-api", REGION).add_auth(signed)
    status, headers, _ = api.call("POST", "/items", b'{"a":2}', change=lambda h: h.update(dict(signed.headers)))
    assert (status, headers["x-amzn-ErrorType"]) == (403, "InvalidSignatureException")


def test_requests_are_logged_by_route_and_never_by_path(stack: Stack, api: Api) -> None:
    api.call("POST", "/items/secret-id/ack?cap=secret-token", b"{}")

    def logged() -> list[dict[str, Any]]:
        return stack.lines("execute-api", "Request", Api=api.id, Route="POST /items/{id}/ack")

    line = eventually(logged)[-1]
    assert (line["caller"], line["status"], line["params"]["RequestBytes"]) == ("anonymous", 200, 2)
    assert "secret-token" not in stack.instance.requests.read_text()


def test_which_methods_of_a_document_are_signed() -> None:
    scheme = {"x-amazon-apigateway-authtype": "awsSigv4"}
    document = {
        "components": {"securitySchemes": {"aws": scheme, "other": {}}},
        "security": [{"aws": []}],
        "paths": {
            "/default": {"get": {}, "parameters": []},
            "/open": {"get": {"security": []}, "post": {"security": [{"other": []}]}},
            "/auth": {
                "x-amazon-apigateway-any-method": {"security": [], "x-amazon-apigateway-auth": {"type": "AWS_IAM"}}
            },
            "/none": {"get": {"x-amazon-apigateway-auth": {"type": "NONE"}}},
        },
    }
    assert iam_methods(document) == {("/default", "GET"), ("/auth", "ANY")}
