"""The rules that every definition keeps to, each found out by itself: `problems` names all that a definition breaks."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from scripts.asl import ACTIVITIES, INTEGRATION, SAMPLES, TOKEN, VARIABLE, Via, branches, edges, scopes, waits

Scope = Mapping[str, Any]
State = Mapping[str, Any]
Rule = Callable[[Scope], Iterator[str]]

RESOURCES = {
    *ACTIVITIES,
    *(
        INTEGRATION + action
        for action in (
            "apigateway:invoke",
            "dynamodb:getItem",
            "events:putEvents.waitForTaskToken",
            "lambda:invoke",
            "sqs:sendMessage.waitForTaskToken",
        )
    ),
}
TYPES = ("Choice", "Parallel", "Pass", "Task", "Wait")
"""Neither Fail nor Succeed: an error ends in Settle, and every end writes the output."""
OUTPUT = {"v", "message_id.$", "life.$", "status.$"}
ANSWERS_WITHIN = 120
"""Seconds. A literal timeout is for calls that answer at once."""
BACKOFF = ("IntervalSeconds", "BackoffRate", "MaxDelaySeconds", "MaxAttempts", "JitterStrategy")
NUMBERS = {"v", "TimeoutSeconds", "IntervalSeconds", "BackoffRate", "MaxDelaySeconds", "MaxAttempts"}
"""The only fields that may hold a number."""
JSONATA = {"Arguments", "Assign", "Condition", "Items", "Output"}
SETTLE, DONE = "Settle", "Done"


def problems(document: Scope) -> list[str]:
    """All rules that a definition breaks, each as `state: what is wrong`."""
    found = list(_machine(document))
    for path, scope in scopes(document):
        found += [f"{path}{words}" for rule in _SCOPE for words in rule(scope)]
        for name, state in scope.get("States", {}).items():
            found += [f"{path}{name}: {words}" for rule in _STATE for words in rule(state)]
    return found


# The machine as a whole


def _machine(document: Scope) -> Iterator[str]:
    if not document.get("Comment"):
        yield "machine: no Comment"
    if document.get("QueryLanguage") != "JSONPath":
        yield "machine: QueryLanguage must be JSONPath"
    yield from _names(document)
    yield from _texts(document, "machine")
    yield from _settles(document)
    for name, state in document.get("States", {}).items():
        yield from (f"{name}: {words}" for words in _keeps_and_catches(name, state))
        yield from (f"{name}: {words}" for words in _error_paths(document["States"], state))


def _names(document: Scope) -> Iterator[str]:
    seen: set[str] = set()
    for _, scope in scopes(document):
        for name in scope.get("States", {}):
            if name in seen:
                yield f"{name}: two states of this name"
            seen.add(name)


def _texts(node: Any, where: str) -> Iterator[str]:
    """What stands in the texts and numbers, wherever they are."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _texts(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, where)
    elif isinstance(node, str):
        yield from _text(node, where)
    elif isinstance(node, int | float) and not isinstance(node, bool) and where not in NUMBERS:
        yield f"{where}: the literal number {node}"


def _text(text: str, where: str) -> Iterator[str]:
    if "{%" in text:
        yield f"{where}: JSONata"
    yield from (f"{where}: the unknown variable {name}" for name in VARIABLE.findall(text) if name not in SAMPLES)
    if "${" in text and not VARIABLE.fullmatch(text) and not text.startswith(INTEGRATION):
        yield f"{where}: a variable inside a text"
    if text.startswith("States."):
        yield from (f"{where}: the literal number {n}" for n in re.findall(r"(?<![\w.$\]])\d+", text) if n not in "01")


def _settles(document: Scope) -> Iterator[str]:
    """Settle and Done are there, and every end writes the output."""
    states = document.get("States", {})
    settle = states.get(SETTLE, {})
    told = settle.get("Parameters", {}).get("FunctionName")
    if (settle.get("Resource"), told) != (f"{INTEGRATION}lambda:invoke", "${settle_function}"):
        yield f"{SETTLE}: must be there and invoke the function settle"
    if settle.get("Next") != DONE or settle.get("Catch"):
        yield f"{SETTLE}: must lead to {DONE} and nowhere else"
    for name, state in states.items():
        if name != SETTLE and any(edge.target == DONE for edge in edges(state)):
            yield f"{name}: only {SETTLE} may lead to {DONE}"
        if state.get("End") and (state.get("Type") != "Pass" or set(state.get("Parameters", {})) != OUTPUT):
            yield f"{name}: an end must be a Pass that writes the output"


def _keeps_and_catches(name: str, state: State) -> Iterator[str]:
    """A call keeps the state's data, and its errors lead to Settle."""
    if state.get("Type") not in ("Task", "Parallel", "Map"):
        return
    if not str(state.get("ResultPath", "")).startswith("$."):
        yield "no ResultPath, so the data would be lost"
    if name == SETTLE:
        return
    last = (state.get("Catch") or [{}])[-1]
    if (last.get("ErrorEquals"), last.get("Next"), last.get("ResultPath")) != (["States.ALL"], SETTLE, "$.trouble"):
        yield f"the last Catch must take States.ALL to {SETTLE} with $.trouble"


def _error_paths(states: Mapping[str, State], state: State) -> Iterator[str]:
    """What is caught leads to Settle, without another call and without an end on the way."""
    for edge in edges(state):
        if edge.via is not Via.CATCH:
            continue
        ways, seen = [edge.target], {edge.target}
        for name in ways:
            reached = states.get(name, {})
            if reached.get("End"):
                yield f"the error {edge.label} may end in {name} without being settled"
            if reached.get("Type") in ("Task", "Parallel", "Map"):
                continue
            following = {out.target for out in edges(reached)} - seen
            seen |= following
            ways += sorted(following)
        if SETTLE not in seen:
            yield f"the error {edge.label} does not lead to {SETTLE}"


# A machine, or a branch inside it


def _flow(scope: Scope) -> Iterator[str]:
    states = scope.get("States", {})
    start = scope.get("StartAt", "")
    if start not in states:
        yield f"StartAt names no state: {start}"
    reached, todo = set[str](), [start]
    while todo:
        name = todo.pop()
        if name in reached or name not in states:
            continue
        reached.add(name)
        todo += [edge.target for edge in edges(states[name])]
    yield from (f"{name}: nothing leads here" for name in states if name not in reached)
    for name, state in states.items():
        targets = {edge.target for edge in edges(state)}
        yield from (f"{name}: leads to no state: {target}" for target in sorted(targets - set(states)))


_SCOPE: Collection[Rule] = (_flow,)


# A state


def _shape(state: State) -> Iterator[str]:
    kind = state.get("Type")
    if kind not in TYPES:
        yield f"Type must be one of {', '.join(TYPES)}"
    if not state.get("Comment"):
        yield "no Comment"
    if kind == "Choice":
        if "Default" not in state:
            yield "no Default"
        if not all(choice.get("Comment") for choice in state.get("Choices", [])):
            yield "a choice without a Comment"
    elif ("Next" in state) == (state.get("End") is True):
        yield "either Next or End"


def _language(state: State) -> Iterator[str]:
    if state.get("QueryLanguage", "JSONPath") != "JSONPath":
        yield "QueryLanguage must be JSONPath"
    if other := sorted(JSONATA & set(state)):
        yield f"JSONata's fields: {', '.join(other)}"


def _waits(state: State) -> Iterator[str]:
    if state.get("Type") == "Wait" and "SecondsPath" not in state:
        yield "a Wait takes its time from SecondsPath"
    if literal := sorted({"Seconds", "Timestamp", "HeartbeatSeconds"} & set(state)):
        yield f"a literal delay: {', '.join(literal)}"


def _timeouts(state: State) -> Iterator[str]:
    if state.get("Type") != "Task":
        return
    if ("TimeoutSeconds" in state) == ("TimeoutSecondsPath" in state):
        yield "either TimeoutSeconds or TimeoutSecondsPath"
    if waits(state) and "TimeoutSecondsPath" not in state:
        yield "what waits for an answer takes its timeout from TimeoutSecondsPath"
    if not 1 <= state.get("TimeoutSeconds", 1) <= ANSWERS_WITHIN:
        yield f"TimeoutSeconds must be 1 to {ANSWERS_WITHIN}"


def _resources(state: State) -> Iterator[str]:
    resource = str(state.get("Resource", ""))
    if state.get("Type") == "Task" and resource not in RESOURCES:
        yield f"unknown Resource {resource}"
    sends = "$$.Task.Token" in _strings(state.get("Parameters", {}))
    if resource.endswith(TOKEN) and not sends:
        yield "the task's token is not sent"
    if sends and not resource.endswith(TOKEN):
        yield "there is no task token here"


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from _strings(value)
    elif isinstance(node, str):
        yield node


def _catches(state: State) -> Iterator[str]:
    for catcher in state.get("Catch", []):
        if not str(catcher.get("ResultPath", "")).startswith("$."):
            yield "a Catch without a ResultPath"
    yield from _wildcards("Catch", state)


def _retries(state: State) -> Iterator[str]:
    if state.get("Type") == "Task" and not state.get("Retry"):
        yield "no Retry"
    for retrier in state.get("Retry", []):
        if retrier.get("MaxAttempts") != 0 and not all(field in retrier for field in BACKOFF):
            yield f"a Retry needs {', '.join(BACKOFF)}"
        if retrier.get("JitterStrategy", "FULL") != "FULL":
            yield "a Retry's JitterStrategy must be FULL"
        if waits(state) and {"States.ALL", "States.Timeout"} & set(retrier.get("ErrorEquals", [])):
            yield "a Retry would wait the whole delay again"
    yield from _wildcards("Retry", state)


def _wildcards(field: str, state: State) -> Iterator[str]:
    """AWS takes States.ALL only alone, and last."""
    entries = [entry.get("ErrorEquals", []) for entry in state.get(field, [])]
    if any(
        "States.ALL" in errors and (errors != ["States.ALL"] or n < len(entries)) for n, errors in enumerate(entries, 1)
    ):
        yield f"States.ALL must stand alone in the last {field}"


def _inside(state: State) -> Iterator[str]:
    if state.get("Type") in ("Parallel", "Map") and not branches(state):
        yield "nothing inside"


_STATE: Collection[Rule] = (_shape, _language, _waits, _timeouts, _resources, _catches, _retries, _inside)
