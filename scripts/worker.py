"""The worker of the workflow delivery_activity: delivers to targets that nothing can reach from outside.

It pulls tasks from the stack's activity, asks the API what to send, hands that to a command or to a URL close by, and
reports how it went. It opens connections but takes none, so it runs behind NAT and firewalls. It keeps no state:
killed, it loses nothing, and another worker goes on. docs/worker.md says more.
"""

import argparse
import json
import logging
import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.session import Session

from scripts.client import Api
from scripts.worker_channels import Command, LocalUrl
from scripts.worker_log import Log
from scripts.worker_loop import EXIT_FATAL, Settings, Stoppable, Worker, stopped_by_signals
from scripts.worker_service import BEAT, POLL, StepFunctions, Tasks

MAX_NAME = 80
"""GetActivityTask's limit for a worker's name."""
_ACTIVITY = re.compile(r"arn:[a-z-]+:states:([a-z0-9-]+):[0-9]{12}:activity:\S{1,80}")
_EXAMPLES = """
settings from the environment:
  UNTIL_ACK_ACTIVITY, UNTIL_ACK_API_URL, and AWS_* as the AWS CLI has them (the region is the activity's)

a command gets the payload on its standard input, and in its environment
  UNTIL_ACK_MESSAGE_ID, UNTIL_ACK_ATTEMPT, UNTIL_ACK_TARGET, UNTIL_ACK_CONTENT_TYPE, UNTIL_ACK_ACK_URL,
  UNTIL_ACK_NACK_URL; it exits with 0 (taken: the ACK comes by the ACK URL), 10 (acknowledged at once),
  20 (the target refuses for ever), or anything else (failed: the schedule goes on)

exit codes of the worker:
  0 stopped by a signal, 1 a fault of its own, 2 bad settings or credentials, 128+n ended at once by a second signal n

examples:
  python -m scripts.worker --stack build/stack.json --command './deliver.sh --to valves'
  python -m scripts.worker --activity arn:aws:states:eu-west-3:123456789012:activity:until-ack-delivery \\
    --api-url https://abc.execute-api.eu-west-3.amazonaws.com/v1 --url 'http://127.0.0.1:9000/devices/{target}'
"""


class Options(NamedTuple):
    """What was asked for on the command line, in the environment and in a stack file."""

    activity: str
    region: str
    api_url: str
    endpoint_url: str | None
    channel: Stoppable
    settings: Settings


def read_options(arguments: Sequence[str] | None, environ: Mapping[str, str]) -> Options:
    """Options first, then the stack file, then the environment. Exits with 2 and says what is wrong."""
    parser = _parser()
    given = parser.parse_args(arguments)
    stack = _stack(parser, given.stack) if given.stack else {}
    activities = stack.get("activities")
    named = activities.get("delivery") if isinstance(activities, dict) else None
    if given.stack and not (given.activity or named):
        parser.error(f"{given.stack}: no activity: is the workflow delivery_activity deployed?")
    activity = given.activity or named or environ.get("UNTIL_ACK_ACTIVITY", "")
    api_url = given.api_url or stack.get("api_url") or environ.get("UNTIL_ACK_API_URL", "")
    arn = _ACTIVITY.fullmatch(activity)
    if not arn:
        parser.error("--activity (or UNTIL_ACK_ACTIVITY, or --stack) must be an activity's ARN")
    if urlsplit(api_url).scheme not in ("http", "https") or not urlsplit(api_url).netloc:
        parser.error("--api-url (or UNTIL_ACK_API_URL, or --stack) must be the API's http(s) URL")
    if given.polls > given.concurrency:
        parser.error("--polls may not be more than --concurrency")
    settings = Settings(
        concurrency=given.concurrency,
        polls=given.polls,
        timeout=given.timeout,
        heartbeat=given.heartbeat,
        drain=given.drain_seconds,
    )
    try:
        channel: Stoppable = Command(given.command) if given.command is not None else LocalUrl(given.url)
    except ValueError as error:
        parser.error(f"{'--url' if given.command is None else '--command'}: {error}")
    return Options(activity, arn[1], api_url, stack.get("endpoint_url"), channel, settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.worker",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument("--command", help="program with its arguments that each message is handed to")
    to.add_argument("--url", help="URL that each message is POSTed to; {target} in it is the target, percent-encoded")
    parser.add_argument("--activity", metavar="ARN", help="the activity to pull from (UNTIL_ACK_ACTIVITY)")
    parser.add_argument("--api-url", metavar="URL", help="the stack's API (UNTIL_ACK_API_URL)")
    parser.add_argument("--stack", metavar="FILE", type=Path, help="take these from a stack file: build/stack.json")
    parser.add_argument("--concurrency", metavar="N", type=_count, default=4, help="tasks at once (4)")
    parser.add_argument("--polls", metavar="N", type=_count, default=1, help="open polls, if as many are free (1)")
    parser.add_argument("--timeout", metavar="S", type=_seconds, default=30.0, help="most for one task, seconds (30)")
    parser.add_argument(
        "--heartbeat", metavar="S", type=_seconds, default=60.0, help="the stack's heartbeat, seconds (60)"
    )
    parser.add_argument(
        "--drain-seconds", metavar="S", type=_seconds, default=60.0, help="most for stopping, open poll included (60)"
    )
    return parser


def _count(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 1000")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 43_200:
        raise argparse.ArgumentTypeError("must be a number of seconds above 0, at most 43200")
    return value


def _stack(parser: argparse.ArgumentParser, path: Path) -> Mapping[str, Any]:
    try:
        stack = json.loads(path.read_bytes())
    except OSError as error:
        parser.error(f"{path}: {error.strerror}")
    except ValueError:
        parser.error(f"{path}: not JSON")
    if not isinstance(stack, dict):
        parser.error(f"{path}: not a JSON object")
    return stack


def worker_name() -> str:
    """Host and process, as the executions' history shows them."""
    suffix = f"-{os.getpid()}"
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())
    return host[: MAX_NAME - len(suffix)] + suffix


def clients(session: Session, region: str, endpoint_url: str | None) -> tuple[StepFunctions, StepFunctions]:
    """Step Functions for polling and for heartbeats."""

    def client(config: Config) -> Any:
        return session.create_client("stepfunctions", region_name=region, endpoint_url=endpoint_url, config=config)

    return client(POLL), client(BEAT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Work until a signal; the exit code."""
    options = read_options(arguments, os.environ)
    # What libraries have to say goes nowhere: it may hold tokens.
    logging.getLogger().addHandler(logging.NullHandler())
    log = Log(name := worker_name())
    try:
        session = Session()
        credentials = session.get_credentials()
        if credentials is None:
            log.error("giving up", why="no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret")
            return EXIT_FATAL
        polling, beating = clients(session, options.region, options.endpoint_url)
    except (BotoCoreError, ValueError) as error:
        log.error("giving up", why=f"{type(error).__name__}: are the AWS settings right?")
        return EXIT_FATAL
    api = Api(options.api_url, options.region, credentials=credentials)
    tasks = Tasks(polling, beating, options.activity, name)
    worker = Worker(tasks, api, options.channel, options.settings, log)
    with stopped_by_signals(worker):
        log.info("started", activity=options.activity, concurrency=options.settings.concurrency)
        return worker.run()


if __name__ == "__main__":
    sys.exit(main())
