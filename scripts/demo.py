"""The main job, shown: messages delivered to real devices until they ACK, at the real 15 s, 30 s and 4 h.

With `--workflow NAME` that workflow's executions run the same story. It starts a stack of its own on
LocalStack and a cast of devices beside it, shows every attempt as it happens, checks each thing it
claims, and writes build/demo.json. It exits non-zero if anything was not as described.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.text import Text
from urllib3.exceptions import HTTPError

from handlers.delivery.signing import webhook_secret
from handlers.delivery.workflows import ACTIVITY, CATALOGUE, EXPRESS_SECONDS, EndedBy
from scripts.cast import COLOURS, Member, moment, span, table
from scripts.client import Answer, Api
from scripts.devices import Behaviour, Device, Devices, acks, drops, nacks, silent
from scripts.executions import Executions
from scripts.lifeline import Process
from scripts.mails import Mail, Mailbox
from scripts.show import Show, make_console
from scripts.stack import Stack, StackError, start
from scripts.terraform import BUILD, ROOT

LIMIT = 180.0
"""Seconds that the demo may take once the stack is up."""
DELAYS = (15, 30, 14400)
LATENESS = 3.0
"""Seconds by which an attempt may start after its delay."""
LOOK = 0.2
"""Seconds between two looks at the devices; the API is asked when something has changed there, or …"""
REFRESH = 2.0
"""… after so many seconds."""
STRAY_DELAY = 40
"""The delay of the message whose next attempt goes astray: long enough for its alarm to be heard first."""
BILLED = {
    ("lambda", "Invocation"),
    ("sqs", "ReceiveMessage"),
    ("sqs", "DeleteMessageBatch"),
    ("sqs", "ChangeMessageVisibilityBatch"),
}
"""What is done on a function's behalf, and billed."""
MAILED_TO = "ada@devices.example"


class Demo:
    """The cast, the scenes, and what came of them."""

    def __init__(self, stack: Stack, devices: Devices, show: Show, workflow: str | None = None) -> None:
        self.stack = stack
        self.workflow = workflow
        self.executions = Executions(stack, client(stack, "stepfunctions"), client(stack, "logs"))
        self.show = show
        self.api = Api(stack.api_url, stack.region, ack_base_url=stack.ack_base_url)
        self.sqs = client(stack, "sqs")
        self.mailbox = Mailbox(Path(stack.mailbox)) if stack.mailbox else None
        self.requests_from = _size(stack.requests)
        self.mails: list[Mail] = []
        self.refused = 0
        self.dead_letters = 0
        self.redriven = 0
        self.deadline = time.time() + LIMIT

        def on_air(name: str, story: str, behaviour: Behaviour, **fields: Any) -> Member:
            device = devices.add(name, behaviour)
            payload = f"Hello {name}, it is {datetime.now(UTC):%H:%M:%S}. ✉"
            request = {"channel": "webhook", "target": device.url, "payload": payload, **fields}
            return Member(name, story, request | self.orchestrated(name), device)

        self.prompt = on_air("prompt", "ACKs at once", acks())
        self.late = on_air("late", "drops two, ACKs the third", drops(1) + drops(1, close=True) + acks())
        self.never = on_air("never", "never answers", silent())
        self.refuser = on_air("refuser", "NACKs: no room", nacks("no room for it"))
        self.stray = on_air(
            "stray", "its second attempt goes astray", drops(1) + acks(), schedule=[STRAY_DELAY, DELAYS[-1]]
        )
        letter = {
            "subject": "The valve needs you",
            "text": "Valve 7 is stuck at 40 %.\nPlease confirm that you read this.",
        }
        mail = {"channel": "email", "target": MAILED_TO, "payload": letter}
        self.reader = Member("reader", "gets a mail", mail | self.orchestrated("reader"))
        self.cast = [self.prompt, self.late, self.never, self.refuser, self.reader, self.stray]

    def play(self) -> None:
        """All scenes. The long waits of the late and the silent device run beside the others."""
        scenes = (
            self.submit,
            self.at_once,
            self.forged,
            self.duplicated,
            self.nacked,
            self.poisoned,
            self.mailed,
            self.alarmed,
            self.waited,
            self.settled,
            *([self.executed] if self.workflow else []),
        )
        for scene in scenes:
            try:
                scene()
            except (BotoCoreError, ClientError, HTTPError) as error:
                self.show.check(False, f"the service can be reached: {scene.__name__}", error)

    def orchestrated(self, name: str) -> dict[str, Any]:
        """The fields that hand a member's message to the workflow, where that can run it."""
        if self.workflow is None or name == "stray":
            # What goes astray is a timer's record, which only the queues have.
            return {}
        channels = CATALOGUE[self.workflow].channels
        if name == "reader" and channels:
            return {}
        fields: dict[str, Any] = {"scheduler": "workflow", "workflow": self.workflow}
        if ACTIVITY in channels:
            fields |= {"channel": ACTIVITY, "target": name}
        if longest := CATALOGUE[self.workflow].longest:
            fields["expires_in"] = longest
        return fields

    def submit(self) -> None:
        """The producer submits everything."""
        for member in self.cast:
            answer = self.api.submit(member.request)
            ok = self.show.check(
                answer.status == 202, f"{member.name} ({member.story}): message accepted with 202", _brief(answer)
            )
            if ok:
                member.id = answer.body["id"]
                member.message = dict(answer.body)

    def at_once(self) -> None:
        """A device that ACKs over the other channel."""
        self.until(lambda: self.prompt.status == "DELIVERED" and self.prompt.recorded, 15)
        self.show.check(
            self.prompt.status == "DELIVERED" and len(self.prompt.attempts) == 1,
            "prompt: DELIVERED by its ACK, after one attempt",
            self.prompt.message,
        )

    def forged(self) -> None:
        """ACKs that nobody may send."""
        self.until(lambda: bool(self.never.ack_url and self.late.ack_url), 15)
        url, capability = _split(self.never.ack_url)
        foreign = _split(self.late.ack_url)[1]
        key, body, mac = [*capability.split("."), "", "", ""][:3]
        forgeries = {
            "with an altered signature": f"{key}.{body}.{_altered(mac)}",
            "with an altered body": f"{key}.{_altered(body)}.{mac}",
            "cut short": capability[:-4],
            "with another message's capability": foreign,
            "without a capability": "",
        }
        told = set()
        for how, forgery in forgeries.items():
            answer = self.api.ack(f"{url}?cap={forgery}" if forgery else url)
            told.add(json.dumps(answer.body, sort_keys=True))
            if self.show.check(answer.status == 403, f"forged ACK {how}: refused with 403", _brief(answer)):
                self.refused += 1
        self.look(self.never)
        self.show.check(len(told) == 1, "all forged ACKs got the same answer, which reveals nothing", told)
        self.show.check(self.never.status == "AWAITING_ACK", "and the message still waits", self.never.status)

    def duplicated(self) -> None:
        """The same ACK once more."""
        before = self.prompt.message
        answer = self.api.ack(self.prompt.ack_url) if self.prompt.ack_url else Answer(0, "no ACK URL", {})
        self.look(self.prompt)
        self.show.check(
            answer.status == 200 and answer.body.get("status") == "DELIVERED" and self.prompt.message == before,
            "duplicated ACK: answered with success, and nothing changed",
            _brief(answer),
        )

    def nacked(self) -> None:
        """A device that says no, and the mail that tells a person."""
        self.until(lambda: self.refuser.status == "REJECTED", 15)
        reason = str(self.refuser.message.get("reason"))
        self.show.check(
            self.refuser.status == "REJECTED" and "no room for it" in reason,
            "refuser: REJECTED by its NACK, with its reason",
            self.refuser.message,
        )
        self.read_mail(
            "the operator is told by mail", lambda mail: mail.says(self.refuser.id) and mail.to != MAILED_TO, 15
        )

    def poisoned(self) -> None:
        """A record in a queue where it cannot be understood: an attempt among the timers."""
        self.until(lambda: bool(self.stray.attempts), 15)
        record = json.dumps({"v": 1, "id": self.stray.id, "attempt": 2, "base": 0})
        self.sqs.send_message(QueueUrl=self.stack.queues["timer-15s"], MessageBody=record, DelaySeconds=0)
        self.show.say("a poison record is put into a queue: stray's attempt 2, among the timers", "bold")
        letters: list[dict[str, Any]] = []

        def arrived() -> bool:
            got = self.sqs.receive_message(
                QueueUrl=self.stack.dlqs["timer-15s"], VisibilityTimeout=0, MessageAttributeNames=["All"]
            )
            letters[:] = got.get("Messages", [])
            return bool(letters)

        self.until(arrived, 20)
        whole = [letter for letter in letters if letter["Body"] == record]
        reason = whole[0].get("MessageAttributes", {}).get("reason", {}).get("StringValue", "") if whole else ""
        if self.show.check(bool(whole and reason), "it lands whole in the dead-letter queue, with the reason", letters):
            self.dead_letters += 1
            self.show.quote([f"reason: {reason}", record])

    def mailed(self) -> None:
        """A person who gets a mail: the link alone does not ACK, the button behind it does."""
        mail = self.read_mail("reader: a mail with an ACK link", lambda mail: MAILED_TO in mail.to, 20)
        if mail is None:
            if self.mailbox is None:
                self.api.cancel(self.reader.id)
            return
        link = next((link for link in mail.links() if self.reader.id in link), "")
        if not self.show.check(bool(link), "the mail has the link", mail.links()):
            return
        page = self.api.page(link)
        form = Form.of(str(page.body), link)
        self.look(self.reader)
        self.show.check(
            page.status == 200 and self.reader.status == "AWAITING_ACK",
            "following the link shows a page, and does not ACK",
            _brief(page),
        )
        if self.show.check(form.method == "post", "the page has a button that POSTs", page.body):
            answer = self.api.unsigned("POST", form.action)
            self.until(lambda: self.reader.status == "DELIVERED", 10)
            self.show.check(
                answer.status == 200 and self.reader.status == "DELIVERED",
                "pressing the button ACKs: DELIVERED",
                _brief(answer),
            )

    def alarmed(self) -> None:
        """The alarm of the dead-letter queue, and the operator's redrive."""
        dlq = self.stack.dlqs["timer-15s"]
        name = dlq.rpartition("/")[2]
        self.read_mail(
            "the dead-letter queue's alarm mail arrives", lambda mail: mail.says(name) and "ALARM" in mail.subject, 45
        )
        # The handler itself wrote the letter, so SQS knows no source queue: the operator names where it belongs.
        source, destination = self.arn(dlq), self.arn(self.stack.queues["webhook"])
        self.sqs.start_message_move_task(SourceArn=source, DestinationArn=destination)
        self.show.say("the record is redriven to the webhook queue, where it belongs", "bold")

        def moved() -> bool:
            tasks = self.sqs.list_message_move_tasks(SourceArn=source)["Results"]
            return any(task["Status"] == "COMPLETED" for task in tasks)

        done = self.until(moved, 20) and self.depth(dlq) == 0
        if self.show.check(done, "redriven: the dead-letter queue is empty again", self.depth(dlq)):
            self.redriven += 1

    def waited(self) -> None:
        """The real delays: 15 s and 30 s, and the 4 h timer armed."""
        self.show.say("waiting for the third attempts at +45 s …")
        self.until(lambda: self.late.status == "DELIVERED", 75)
        self.until(lambda: len(self.never.attempts) == 3 and self.never.recorded, 20)
        self.show.check(
            self.late.status == "DELIVERED" and len(self.late.attempts) == 3,
            "late: DELIVERED at its third attempt",
            self.late.message,
        )
        for member in (self.late, self.never):
            self.on_time(member, DELAYS)
        third = self.never.attempts[-1]["sent_at"] if self.never.attempts else None
        due = self.never.message.get("next_attempt_at")
        wait = (moment(due) - moment(third)).total_seconds() if due and third else 0.0
        waits = self.never.status == "AWAITING_ACK" and len(self.never.attempts) == 3
        if self.never.request.get("expires_in") == EXPRESS_SECONDS:
            self.show.check(
                waits and due is None,
                "never: waits for its ACK; it expires before a fourth attempt, as an Express execution must end",
                self.never.message,
            )
        else:
            self.show.check(
                waits and abs(wait - DELAYS[-1]) <= 1,
                f"never: waits for its ACK; next attempt at {due}, {span(wait)} after the third",
                self.never.message,
            )
        # An ACK does not reach into the queue: the timers of late and stray are there too, and stop when they come.
        timed = [m for m in (self.late, self.never, self.stray) if m.message.get("scheduler") == "queues"]
        waiting = [m.name for m in timed if _delay(m) == DELAYS[-1]]
        armed = self.depth(self.stack.queues["timer-4h"])
        self.show.check(
            armed == len(waiting),
            f"4 h timers are armed: {armed} wait in that queue, one for each of {', '.join(waiting) or 'none'}",
            armed,
        )
        if self.workflow:
            self.show.check(
                self.never not in timed and self.execution(self.never, "RUNNING"),
                "never: no timer waits for it, but its execution",
                self.never.message,
            )

    def settled(self) -> None:
        """The end: the stray record did its work once, and nothing is left over."""
        self.until(lambda: self.stray.status == "DELIVERED", STRAY_DELAY + 10)
        self.show.check(
            self.stray.status == "DELIVERED" and len(self.stray.attempts) == 2,
            "stray: DELIVERED; its timer and the redriven record made one attempt 2 between them",
            self.stray.message,
        )
        self.on_time(self.stray, (STRAY_DELAY,))
        left = {noun: depth for noun, url in self.stack.dlqs.items() if (depth := self.depth(url))}
        self.show.check(not left, "no dead letter is left in any queue", left)
        for member in self.cast:
            self.look(member)
            if member.device:
                self.delivered_right(member, member.device)
        taken = time.time() - self.show.start
        self.show.check(taken <= LIMIT, f"all of it took {taken:.0f} s, at most {LIMIT:.0f}", f"{taken:.0f} s")

    def executed(self) -> None:
        """Each message of the workflow had an execution, which ends as the message has."""
        ended_by = CATALOGUE[str(self.workflow)].ended_by
        for member in (self.prompt, self.late, self.refuser):
            status, why = "SUCCEEDED", ""
            if ended_by is EndedBy.STOP:
                status, why = "ABORTED", ", stopped by the answer"
            elif ended_by is EndedBy.READING and member is self.late:
                status, why = "RUNNING", ": it looks again after its third delay, and ends then"
            if self.show.check(
                self.until(lambda m=member, s=status: self.execution(m, s), 45),  # type: ignore[misc]
                f"{member.name}: its execution is {status}{why}",
            ):
                found = self.executions.get(str(self.workflow), member.id)
                self.show.quote([f"{member.id}-1: {' → '.join(found.states if found else [])}"])

    def execution(self, member: Member, status: str) -> bool:
        """Whether a member's execution has this status, and its message's status as its output once it has ended."""
        found = self.executions.get(str(self.workflow), member.id)
        told = found is not None and found.output.get("status") == member.status
        return found is not None and found.status == status and (told or status != "SUCCEEDED")

    def on_time(self, member: Member, delays: tuple[int, ...]) -> None:
        """Check each attempt's start against the delay after the one before."""
        sent = [moment(attempt["sent_at"]) for attempt in member.attempts]
        gaps = [(after - before).total_seconds() for before, after in pairwise(sent)]
        late = [gap - delay for gap, delay in zip(gaps, delays, strict=False)]
        self.show.check(
            bool(gaps) and all(0 <= seconds <= LATENESS for seconds in late),
            f"{member.name}: attempts at "
            + ", ".join(f"+{(at - sent[0]).total_seconds():.1f} s" for at in sent)
            + f", none early, none over {LATENESS:.0f} s late",
            late,
        )

    def delivered_right(self, member: Member, device: Device) -> None:
        """Check what the device itself saw."""
        payload = member.request["payload"].encode()
        receipts = device.receipts
        pulled = member.request["channel"] == ACTIVITY
        self.show.check(
            [receipt.attempt for receipt in receipts] == list(range(1, len(member.attempts) + 1))
            and all(r.body == payload and r.message_id == member.id for r in receipts)
            and (pulled or all(r.verified for r in receipts)),
            f"{member.name}: the device got each attempt once, byte for byte"
            + (", from its worker" if pulled else ", signed"),
            [(receipt.attempt, receipt.verified, receipt.body == payload) for receipt in receipts],
        )

    def read_mail(self, what: str, wanted: Callable[[Mail], bool], within: float) -> Mail | None:
        """Wait for a mail and show it."""
        mailbox = self.mailbox
        if mailbox is None:
            self.show.skip(what, "this endpoint forwards no mail")
            return None
        found: list[Mail] = []

        def arrived() -> bool:
            if mail := mailbox.find(wanted):
                found.append(mail)
            return bool(found)

        self.until(arrived, within)
        if self.show.check(bool(found), what, [mail.subject for mail in mailbox.mails()]):
            self.show.quote([f"To: {found[0].to}", f"Subject: {found[0].subject}", *_first_lines(found[0].text)])
        self.mails += found[:1]
        return found[0] if found else None

    def until(self, done: Callable[[], bool], within: float) -> bool:
        """Look at everything until something is so; says whether it came about in time."""
        deadline = min(time.time() + within, self.deadline)
        while True:
            self.watch()
            if done():
                return True
            if time.time() >= deadline:
                return False
            time.sleep(LOOK)

    def watch(self) -> None:
        """Ask the API about the messages of which there may be news, and redraw."""
        for member in self.cast:
            settled = member.ended and member.asked_after == member.news
            if (
                member.id
                and not settled
                and (member.news != member.asked_after or time.time() - member.asked_at >= REFRESH)
            ):
                self.look(member)
        self.show.draw(lambda: table(self.cast))

    def look(self, member: Member) -> None:
        """Ask the API about one message, and tell what has changed."""
        member.asked_at, member.asked_after = time.time(), member.news
        answer = self.api.get(member.id)
        if answer.status != 200:
            self.show.say(f"{member.name}: the API answered {_brief(answer)}", "red")
            return
        before, member.message = member.message, answer.body
        if not member.recorded:
            # An attempt under way is news soon.
            member.asked_after = -1
        known = {attempt["n"]: attempt["outcome"] for attempt in before.get("attempts", [])}
        for attempt in member.attempts:
            if attempt["outcome"] and not known.get(attempt["n"]):
                offset = (moment(attempt["sent_at"]) - moment(member.message["created_at"])).total_seconds()
                detail = " ".join(str(attempt[key]) for key in ("outcome", "reason") if attempt[key])
                self.show.say(f"  {member.name}: attempt {attempt['n']} at +{offset:.1f} s: {detail}")
        if member.status != before.get("status") and member.ended:
            self.show.say(f"  {member.name}: {member.status}", COLOURS.get(member.status, ""))

    def arn(self, url: str) -> str:
        """A queue's ARN."""
        return str(self.attributes(url, "QueueArn")["QueueArn"])

    def depth(self, url: str) -> int:
        """How many messages a queue holds: visible, in flight and delayed."""
        names = ("", "NotVisible", "Delayed")
        counts = self.attributes(url, *(f"ApproximateNumberOfMessages{name}" for name in names))
        return sum(int(count) for count in counts.values())

    def attributes(self, url: str, *names: str) -> Mapping[str, str]:
        """Some attributes of a queue."""
        answer: dict[str, Any] = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))
        return dict(answer["Attributes"])

    def report(self) -> dict[str, Any]:
        """What build/demo.json holds."""
        return {
            "messages": [
                {
                    **{name: member.message.get(name) for name in ("id", "target", "channel", "status")},
                    "attempts": [
                        {name: attempt[name] for name in ("n", "due_at", "sent_at", "outcome")}
                        for attempt in member.attempts
                    ],
                    "next_attempt_at": member.message.get("next_attempt_at"),
                }
                for member in self.cast
            ],
            "mails": None
            if self.mailbox is None
            else [{"from": mail.sender, "to": mail.to, "subject": mail.subject} for mail in self.mails],
            "refused_acks": self.refused,
            "dead_letters": self.dead_letters,
            "redriven": self.redriven,
            "api_calls": count_calls(self.stack.requests, self.requests_from),
        }


class Form(HTMLParser):
    """The form on the ACK page: where a press of its button goes, and how."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.method = ""
        self.action = base
        self.buttons = 0

    @classmethod
    def of(cls, page: str, base: str) -> "Form":
        """The form of a page that was fetched from `base`; without a button its method is empty."""
        form = cls(base)
        form.feed(page)
        form.method = form.method if form.buttons else ""
        return form

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each tag."""
        values = dict(attrs)
        if tag == "form":
            self.method = (values.get("method") or "get").lower()
            self.action = urljoin(self.base, values.get("action") or "")
        self.buttons += tag == "button"


def client(stack: Stack, service: str) -> Any:
    """A client of one AWS service at the stack's endpoint."""
    return botocore.session.Session().create_client(service, region_name=stack.region, endpoint_url=stack.endpoint_url)


def count_calls(requests: str | None, start: int) -> dict[str, int] | None:
    """How often each AWS operation was called, by the request log from byte `start` on; None without a log.

    What LocalStack does for itself is left out, but not what Lambda does for a queue's function: AWS bills that.
    """
    if requests is None:
        return None
    with Path(requests).open("rb") as file:
        file.seek(start)
        calls = [json.loads(line) for line in file if line.endswith(b"}\n")]
    counted = [call for call in calls if not call["internal"] or (call["service"], call["operation"]) in BILLED]
    return dict(sorted(Counter(f"{call['service']}.{call['operation']}" for call in counted).items()))


def _size(file: str | None) -> int:
    return Path(file).stat().st_size if file and Path(file).exists() else 0


def _delay(member: Member) -> int:
    """The delay after its last attempt, as its schedule says."""
    schedule = member.request.get("schedule", DELAYS)
    return int(schedule[min(len(member.attempts), len(schedule)) - 1])


def _brief(answer: Answer) -> str:
    return f"{answer.status} {str(answer.body)[:300]}"


def _split(url: str) -> tuple[str, str]:
    base, _, capability = url.partition("?cap=")
    return base, capability


def _altered(text: str) -> str:
    """The same with its first character exchanged."""
    return ("B" if text.startswith("A") else "A") + text[1:]


def _first_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()][:8]


@contextmanager
def worker(stack: Stack, devices: Devices, workflow: str | None) -> Iterator[None]:
    """A worker between the activity and the devices, for the workflow that needs one."""
    if workflow is None or ACTIVITY not in CATALOGUE[workflow].channels:
        yield
        return
    options = ["--activity", stack.activities["delivery"], "--api-url", stack.api_url]
    options += ["--url", f"{devices.url}/devices/{{target}}", "--drain-seconds", "1"]
    command = [sys.executable, "-m", "scripts.worker", *options]
    process = Process(command, BUILD / "demo-stack/worker.log", {**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        yield
    finally:
        process.stop()


def run(console: Console, stack: Stack, workflow: str | None = None) -> int:
    """Play the demo on a stack; returns the exit code."""
    master = client(stack, "secretsmanager").get_secret_value(SecretId=stack.webhook_key_secret)["SecretString"]
    with (
        Devices(secret_for=lambda url: webhook_secret(master, url)) as devices,
        worker(stack, devices, workflow),
        Show(console) as show,
    ):
        demo = Demo(stack, devices, show, workflow)
        demo.play()
    console.print(table(demo.cast))
    file = BUILD / "demo.json"
    file.write_text(json.dumps(demo.report(), indent=2) + "\n")
    counts = Counter(member.status for member in demo.cast)
    console.print(
        f"{len(demo.cast)} messages: {', '.join(f'{count} {status}' for status, count in counts.items())}; "
        f"{demo.refused} forged ACKs refused; {demo.dead_letters} dead letter, {demo.redriven} redriven; "
        f"{len(demo.mails)} mails read",
        soft_wrap=True,
    )
    verdict = f"{show.passed} of {show.passed + len(show.failures)} things were as described"
    style = "bold green" if not show.failures else "bold red"
    console.print(f"{verdict}; all of it in {file.relative_to(ROOT)}", style=style, soft_wrap=True)
    for sentence in show.failures:
        console.print(Text(f"✗ {sentence}", style="red"), soft_wrap=True)
    for sentence in show.skipped:
        console.print(Text(f"· not checked: {sentence}", style="yellow"), soft_wrap=True)
    return 1 if show.failures else 0


def _variables(workflow: str | None) -> dict[str, Any]:
    """Only what the story needs, so that it begins soon; Express executions show in their logs alone."""
    if workflow is None:
        return {"workflows": []}
    return {"workflows": [workflow], "workflow_settings": {"express_log_level": "ALL", "include_execution_data": True}}


def main() -> int:
    """Start a stack, play the demo on it, and take everything down again."""
    parser = argparse.ArgumentParser(prog="demo", description=main.__doc__)
    parser.add_argument("--workflow", choices=sorted(CATALOGUE), help="run the story by this workflow's executions")
    workflow = parser.parse_args().workflow
    console = make_console()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with start("demo-stack", variables=_variables(workflow)) as stack:
            os.environ.update(stack.environment)
            return run(console, stack, workflow)
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 130
    except StackError as error:
        console.print(Text(str(error), style="red"), soft_wrap=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
