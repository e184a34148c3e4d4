"""Amazon States Language, as far as our definitions use it: checked when it is loaded, played state by state.

It knows neither time nor services. `Machine.play` is a generator: it yields what it needs (`Step`, `Sleep`, `Call`,
`Fork`), and whoever drives it sends the result back or throws a `StateError`. What it does not know it refuses.
"""

import json
import random
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

MAX_DATA = 262_144
"""Bytes of a state's input, output or result, quotas of AWS Step Functions."""
FATAL = frozenset({"States.Runtime", "States.DataLimitExceeded"})
"""Errors that neither Retry nor Catch takes, not even by States.ALL."""


class Unsupported(BaseException):
    """A definition says something that this interpreter does not know, or that AWS would refuse."""


class StateError(Exception):
    """A state has failed, with an error's name that Retry and Catch may know."""

    def __init__(self, error: str, cause: str = "") -> None:
        self.error = error
        self.cause = cause
        super().__init__(error, cause)


@dataclass(frozen=True, slots=True)
class Step:
    """The step into the next state: takes what a transition takes."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """A wait of so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Call:
    """A task: what it calls, with what. `token` is there when it waits for its answer. Seconds."""

    resource: str
    arguments: Any
    timeout: int | None
    heartbeat: int | None
    token: str | None


@dataclass(frozen=True, slots=True)
class Fork:
    """Branches that run side by side; the result is the list of theirs."""

    branches: "Sequence[Fiber]"


Effect = Step | Sleep | Call | Fork
Fiber = Generator[Effect, Any, Any]


class Run(Protocol):
    """What the player needs of an execution."""

    @property
    def context(self) -> Mapping[str, Any]:
        """The context object, but for State and Task."""
        ...

    @property
    def rng(self) -> random.Random:
        """Chance, for jitter."""
        ...

    def clock(self) -> int:
        """Now, in milliseconds since the epoch."""
        ...

    def token(self) -> str:
        """A new task token."""
        ...

    def note(self, event: str, state: str = "") -> None:
        """Write an event of the history."""
        ...

    def transition(self) -> None:
        """Count a transition: a state entered, or tried again."""
        ...


def iso(millis: int) -> str:
    """A time as the context object has it."""
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Paths and intrinsic functions

_PATH = re.compile(r"\$\$?(\.[A-Za-z_][A-Za-z0-9_]*|\[[0-9]+\])*")
_PART = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[([0-9]+)\]")
_INTRINSIC = re.compile(r"(States\.[A-Za-z0-9]+)\(")
_LITERAL = re.compile(r"'((?:[^'\\]|\\.)*)'|(-?[0-9]+(?:\.[0-9]+)?)|(null)")

Value = Callable[[Any, Mapping[str, Any]], Any]
"""Reads a value from a state's data and the context object."""


def compile_path(text: object) -> Value:
    """A reference path, `$…` or `$$…`. A path that leads nowhere fails the execution, as on AWS."""
    if not isinstance(text, str) or not _PATH.fullmatch(text):
        raise Unsupported(f"path {text!r}")
    parts = [name or int(index) for name, index in _PART.findall(text)]
    of_context = text.startswith("$$")

    def read(data: Any, context: Mapping[str, Any]) -> Any:
        value: Any = context if of_context else data
        for part in parts:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                raise StateError("States.Runtime", f"the path {text} leads nowhere") from None
        return value

    return read


def compile_value(text: object) -> Value:
    """What stands at a field whose name ends in `.$`: a path or an intrinsic function."""
    if not isinstance(text, str):
        raise Unsupported(f"value {text!r}")
    if not text.startswith("States."):
        return compile_path(text)
    value, rest = _intrinsic(text)
    if rest:
        raise Unsupported(f"{rest!r} after the intrinsic function in {text!r}")
    return value


def _intrinsic(text: str) -> tuple[Value, str]:
    match = _INTRINSIC.match(text)
    if match is None or match[1] not in _FUNCTIONS:
        raise Unsupported(f"intrinsic function {text!r}")
    least, most, work = _FUNCTIONS[match[1]]
    rest = text[match.end() :].lstrip()
    arguments: list[Value] = []
    while not rest.startswith(")"):
        value, rest = _argument(rest)
        arguments.append(value)
        rest = rest.lstrip()
        if rest.startswith(","):
            rest = rest[1:].lstrip()
        elif not rest.startswith(")"):
            raise Unsupported(f"arguments of {text!r}")
    if not least <= len(arguments) <= most:
        raise Unsupported(f"{len(arguments)} arguments in {text!r}")

    def apply(data: Any, context: Mapping[str, Any]) -> Any:
        values = [argument(data, context) for argument in arguments]
        try:
            return work(*values)
        except (TypeError, ValueError, IndexError) as error:
            raise StateError("States.IntrinsicFailure", f"{text}: {error}") from None

    return apply, rest[1:]


def _argument(text: str) -> tuple[Value, str]:
    if text.startswith("States."):
        return _intrinsic(text)
    if literal := _LITERAL.match(text):
        quoted, number, _ = literal.groups()
        value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else json.loads(literal[0]) if number else None
        return lambda data, context: value, text[literal.end() :]
    if (path := _PATH.match(text)) and path[0]:
        return compile_path(path[0]), text[path.end() :]
    raise Unsupported(f"argument {text!r}")


def _math_add(left: Any, right: Any) -> int:
    if type(left) is not int or type(right) is not int:
        raise TypeError("MathAdd takes whole numbers")
    if not -(2**31) <= left + right < 2**31:
        raise ValueError("MathAdd is over its range")
    return left + right


def _item(array: Any, index: Any) -> Any:
    if not isinstance(array, list) or type(index) is not int or index < 0:
        raise TypeError("ArrayGetItem takes an array and an index")
    return array[index]


def _format(template: Any, *values: Any) -> str:
    parts = str(template).split("{}")
    if len(parts) != len(values) + 1:
        raise ValueError("as many {} as values")
    shown = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return "".join(part + value for part, value in zip(parts, [*shown, ""], strict=True))


_FUNCTIONS: Mapping[str, tuple[int, int, Callable[..., Any]]] = {
    "States.MathAdd": (2, 2, _math_add),
    "States.ArrayGetItem": (2, 2, _item),
    "States.Format": (1, 20, _format),
}


def compile_template(template: Any) -> Value:
    """A payload template: Parameters or ResultSelector."""
    if isinstance(template, dict):
        fields: dict[str, Value] = {}
        for name, value in template.items():
            plain = name.removesuffix(".$")
            if plain in fields:
                raise Unsupported(f"field {plain!r} twice")
            fields[plain] = compile_value(value) if plain != name else compile_template(value)
        return lambda data, context: {name: read(data, context) for name, read in fields.items()}
    if isinstance(template, list):
        items = [compile_template(item) for item in template]
        return lambda data, context: [item(data, context) for item in items]
    return lambda data, context: template


def put(path: str | None, data: Any, result: Any) -> Any:
    """The state's data with a result at its ResultPath; None drops the result."""
    if path is None:
        return data
    if path == "$":
        return result
    parts = [name or int(index) for name, index in _PART.findall(path)]
    if not _PATH.fullmatch(path) or path.startswith("$$") or not all(isinstance(part, str) for part in parts):
        raise Unsupported(f"ResultPath {path!r}")
    return _put(parts, data, result)


def _put(parts: Sequence[Any], data: Any, result: Any) -> Any:
    if not parts:
        return result
    if not isinstance(data, dict):
        raise StateError("States.Runtime", "ResultPath leads through what is no object")
    return {**data, parts[0]: _put(parts[1:], data.get(parts[0], {}), result)}


# Choice rules

_COMPARISONS: Mapping[str, tuple[type | tuple[type, ...], Callable[[Any, Any], bool]]] = {
    "StringEquals": (str, lambda value, other: value == other),
    "BooleanEquals": (bool, lambda value, other: value == other),
    "NumericEquals": ((int, float), lambda value, other: value == other),
    "NumericLessThan": ((int, float), lambda value, other: value < other),
    "NumericLessThanEquals": ((int, float), lambda value, other: value <= other),
    "NumericGreaterThan": ((int, float), lambda value, other: value > other),
    "NumericGreaterThanEquals": ((int, float), lambda value, other: value >= other),
}
Rule = Callable[[Any, Mapping[str, Any]], bool]


def compile_rule(rule: Mapping[str, Any], top: bool = True) -> Rule:
    """A choice rule, without its Next."""
    rest = {name: value for name, value in rule.items() if name not in ({"Next", "Comment"} if top else {"Comment"})}
    if len(rest) == 1 and (name := next(iter(rest))) in ("And", "Or", "Not"):
        if name == "Not":
            inner = compile_rule(rest[name], top=False)
            return lambda data, context: not inner(data, context)
        rules = [compile_rule(part, top=False) for part in rest[name]]
        join = all if name == "And" else any
        return lambda data, context: join(part(data, context) for part in rules)
    variable, operators = rest.pop("Variable", None), rest
    if len(operators) != 1:
        raise Unsupported(f"choice rule {rule}")
    ((operator, other),) = operators.items()
    read = compile_path(variable)
    if operator == "IsPresent":
        if not isinstance(other, bool):
            raise Unsupported(f"choice rule {rule}")
        return lambda data, context: _present(read, data, context) is other
    operator, by_path = operator.removesuffix("Path"), operator.endswith("Path")
    if operator not in _COMPARISONS:
        raise Unsupported(f"choice operator {operator}")
    kind, compare = _COMPARISONS[operator]
    wanted = compile_path(other) if by_path else compile_template(other)

    def holds(data: Any, context: Mapping[str, Any]) -> bool:
        value, against = read(data, context), wanted(data, context)
        fits = isinstance(value, kind) and isinstance(against, kind)
        if kind is not bool and (isinstance(value, bool) or isinstance(against, bool)):
            fits = False
        return fits and compare(value, against)

    return holds


def _present(read: Value, data: Any, context: Mapping[str, Any]) -> bool:
    try:
        read(data, context)
    except StateError:
        return False
    return True


# The definition

_COMMON = {"Type", "Comment"}
_FLOW = {"Next", "End"}
_HANDLING = {"ResultSelector", "ResultPath", "Retry", "Catch"}
_FIELDS: Mapping[str, set[str]] = {
    "Task": {
        "Resource", "Parameters", "TimeoutSeconds", "TimeoutSecondsPath", "HeartbeatSeconds", "HeartbeatSecondsPath",
        *_HANDLING, *_FLOW,
    },
    "Parallel": {"Branches", "Parameters", *_HANDLING, *_FLOW},
    "Pass": {"Parameters", "Result", "ResultPath", *_FLOW},
    "Wait": {"Seconds", "SecondsPath", *_FLOW},
    "Choice": {"Choices", "Default"},
    "Succeed": set(),
    "Fail": {"Error", "Cause"},
}  # fmt: skip
_RETRIER = {
    "ErrorEquals", "IntervalSeconds", "MaxAttempts", "BackoffRate", "MaxDelaySeconds", "JitterStrategy", "Comment",
}  # fmt: skip
_CATCHER = {"ErrorEquals", "Next", "ResultPath", "Comment"}
_RESERVED = {
    "States.ALL", "States.Timeout", "States.HeartbeatTimeout", "States.TaskFailed", "States.BranchFailed",
    "States.Permissions", "States.NoChoiceMatched", "States.IntrinsicFailure",
}  # fmt: skip


def _known(what: str, given: Mapping[str, Any], fields: set[str]) -> None:
    if unknown := set(given) - fields:
        raise Unsupported(f"{what}: {', '.join(sorted(unknown))}")


class State:
    """One state of a definition, read and checked."""

    def __init__(self, name: str, text: Mapping[str, Any]) -> None:
        self.name = name
        self.kind = str(text.get("Type"))
        if self.kind not in _FIELDS:
            raise Unsupported(f"{name}: Type {self.kind}")
        _known(name, text, _COMMON | _FIELDS[self.kind])
        self.text = text
        self.next: str | None = text.get("Next")
        if "Next" in _FIELDS[self.kind] and (self.next is None) is not (text.get("End") is True):
            raise Unsupported(f"{name}: either Next or End")
        self.parameters = compile_template(text["Parameters"]) if "Parameters" in text else None
        self.selector = compile_template(text["ResultSelector"]) if "ResultSelector" in text else None
        self.result_path = text.get("ResultPath", "$")
        put(self.result_path, {}, {})
        self.retriers = [_retrier(name, retrier) for retrier in text.get("Retry", [])]
        self.catchers = text.get("Catch", [])
        for catcher in self.catchers:
            _known(f"{name}: Catch", catcher, _CATCHER)
            if "ResultPath" not in catcher:
                raise Unsupported(f"{name}: a Catch without a ResultPath")
            put(catcher["ResultPath"], {}, {})
        _check_errors(name, self.retriers)
        _check_errors(name, self.catchers)
        getattr(self, f"_read_{self.kind.lower()}")()

    def follows(self) -> set[str]:
        """The states that may come next."""
        after = {self.next} if self.next else set()
        after |= {catcher["Next"] for catcher in self.catchers}
        after |= {choice["Next"] for choice in self.text.get("Choices", [])}
        return after | ({self.text["Default"]} if "Default" in self.text else set())

    def _seconds(self, field: str) -> Value | None:
        fixed, by_path = self.text.get(field), self.text.get(f"{field}Path")
        if fixed is not None and by_path is not None:
            raise Unsupported(f"{self.name}: {field} twice")
        if by_path is not None:
            return compile_path(by_path)
        if fixed is None:
            return None
        if type(fixed) is not int or fixed < 1:
            raise Unsupported(f"{self.name}: {field} {fixed!r}")
        return lambda data, context: fixed

    def _read_task(self) -> None:
        self.resource = str(self.text["Resource"])
        self.timeout, self.heartbeat = self._seconds("TimeoutSeconds"), self._seconds("HeartbeatSeconds")
        if self.timeout is None:
            raise Unsupported(f"{self.name}: every Task has a timeout")

    def _read_parallel(self) -> None:
        self.branches = [Machine(branch, top=False) for branch in self.text["Branches"]]

    def _read_pass(self) -> None:
        if "Result" in self.text and "Parameters" in self.text:
            raise Unsupported(f"{self.name}: Result and Parameters")

    def _read_wait(self) -> None:
        self.seconds = self._seconds("Seconds")
        if self.seconds is None:
            raise Unsupported(f"{self.name}: a Wait needs seconds")

    def _read_choice(self) -> None:
        self.rules = [(compile_rule(choice), str(choice["Next"])) for choice in self.text["Choices"]]

    def _read_succeed(self) -> None:
        return None

    def _read_fail(self) -> None:
        return None


def _retrier(name: str, retrier: Mapping[str, Any]) -> Mapping[str, Any]:
    _known(f"{name}: Retry", retrier, _RETRIER)
    interval, most = retrier.get("IntervalSeconds", 1), retrier.get("MaxDelaySeconds")
    numbers_fit = type(interval) is int and interval >= 1 and retrier.get("BackoffRate", 2.0) >= 1
    if not numbers_fit or type(retrier.get("MaxAttempts", 3)) is not int:
        raise Unsupported(f"{name}: Retry {retrier}")
    if most is not None and not (type(most) is int and interval < most < 31_622_400):
        raise Unsupported(f"{name}: MaxDelaySeconds must be above IntervalSeconds")
    if retrier.get("JitterStrategy", "NONE") not in ("NONE", "FULL"):
        raise Unsupported(f"{name}: JitterStrategy")
    return retrier


def _check_errors(name: str, handlers: Sequence[Mapping[str, Any]]) -> None:
    for position, handler in enumerate(handlers):
        errors = handler.get("ErrorEquals")
        if not isinstance(errors, list) or not errors:
            raise Unsupported(f"{name}: ErrorEquals {errors!r}")
        if "States.ALL" in errors and (len(errors) > 1 or position + 1 < len(handlers)):
            raise Unsupported(f"{name}: States.ALL stands alone and last")
        if unknown := {e for e in errors if e.startswith("States.")} - _RESERVED:
            raise Unsupported(f"{name}: errors {unknown}")


def handles(handler: Mapping[str, Any], error: str) -> bool:
    """Whether a retrier or catcher takes this error."""
    errors = handler["ErrorEquals"]
    if error in FATAL:
        return False
    if error in errors or "States.ALL" in errors:
        return True
    if error == "States.HeartbeatTimeout":
        return "States.Timeout" in errors
    return "States.TaskFailed" in errors and error != "States.Timeout"


class Machine:
    """A definition, checked: whatever AWS would refuse, and whatever this interpreter does not know, is an error."""

    def __init__(self, text: Mapping[str, Any], top: bool = True) -> None:
        _known(
            "definition", text, {"StartAt", "States", "Comment", *(("TimeoutSeconds", "QueryLanguage") if top else ())}
        )
        if text.get("QueryLanguage", "JSONPath") != "JSONPath":
            raise Unsupported(f"QueryLanguage {text['QueryLanguage']}")
        self.timeout: int | None = text.get("TimeoutSeconds")
        self.start = str(text["StartAt"])
        self.states = {name: State(name, state) for name, state in text["States"].items()}
        reached, todo = set[str](), {self.start}
        while todo:
            name = todo.pop()
            if name not in self.states:
                raise Unsupported(f"no state {name}")
            reached.add(name)
            todo |= self.states[name].follows() - reached
        if unreached := set(self.states) - reached:
            raise Unsupported(f"states that nothing leads to: {unreached}")

    @property
    def tasks(self) -> Sequence[State]:
        """All tasks, those of branches too."""
        own = [state for state in self.states.values() if state.kind == "Task"]
        forks = [state for state in self.states.values() if state.kind == "Parallel"]
        return [*own, *(task for fork in forks for branch in fork.branches for task in branch.tasks)]

    def play(self, told: Any, run: Run) -> Fiber:
        """Play it from its first state to its end; the output is the generator's result."""
        name: str | None = self.start
        data = told
        while name is not None:
            yield Step()
            state = self.states[name]
            run.transition()
            run.note(f"{state.kind}StateEntered", name)
            context = {**run.context, "State": {"Name": name, "EnteredTime": iso(run.clock()), "RetryCount": 0}}
            play = getattr(self, f"_play_{state.kind.lower()}")
            data, name = yield from play(state, data, context, run)
            run.note(f"{state.kind}StateExited", state.name)
        return data

    def _play_pass(self, state: State, data: Any, context: Mapping[str, Any], run: Run) -> Fiber:
        yield from ()
        result = state.parameters(data, context) if state.parameters else state.text.get("Result", data)
        return put(state.result_path, data, result), state.next

    def _play_wait(self, state: State, data: Any, context: Mapping[str, Any], run: Run) -> Fiber:
        assert state.seconds is not None
        seconds = state.seconds(data, context)
        if type(seconds) is not int or seconds < 0:
            raise StateError("States.Runtime", f"{state.name} would wait {seconds!r} seconds")
        yield Sleep(seconds)
        return data, state.next

    def _play_choice(self, state: State, data: Any, context: Mapping[str, Any], run: Run) -> Fiber:
        yield from ()
        for rule, following in state.rules:
            if rule(data, context):
                return data, following
        if "Default" not in state.text:
            raise StateError("States.NoChoiceMatched", state.name)
        return data, state.text["Default"]

    def _play_succeed(self, state: State, data: Any, context: Mapping[str, Any], run: Run) -> Fiber:
        yield from ()
        return data, None

    def _play_fail(self, state: State, data: Any, context: Mapping[str, Any], run: Run) -> Fiber:
        yield from ()
        raise StateError(state.text.get("Error", ""), state.text.get("Cause", ""))

    def _play_task(self, state: State, data: Any, context: Mapping[str, Any], run: Run) -> Fiber:
        return (yield from self._handling(state, data, context, run, self._call))

    def _play_parallel(self, state: State, data: Any, context: Mapping[str, Any], run: Run) -> Fiber:
        return (yield from self._handling(state, data, context, run, self._fork))

    @staticmethod
    def _call(state: State, data: Any, context: Mapping[str, Any], run: Run) -> Fiber:
        token = run.token() if state.resource.endswith(".waitForTaskToken") else None
        if token is not None:
            context = {**context, "Task": {"Token": token}}
        arguments = data if state.parameters is None else state.parameters(data, context)
        times = [None if read is None else read(data, context) for read in (state.timeout, state.heartbeat)]
        for seconds in times:
            if seconds is not None and (type(seconds) is not int or not 0 < seconds <= 99_999_999):
                raise StateError("States.Runtime", f"{state.name}: a time of {seconds!r} seconds")
        if times[0] is not None and times[1] is not None and times[1] > max(1, times[0] - 1):
            raise StateError("States.Runtime", f"{state.name}: a heartbeat of {times[1]} s in {times[0]} s")
        return (yield Call(state.resource, arguments, times[0], times[1], token))

    @staticmethod
    def _fork(state: State, data: Any, context: Mapping[str, Any], run: Run) -> Fiber:
        told = data if state.parameters is None else state.parameters(data, context)
        run.note("ParallelStateStarted", state.name)
        try:
            result = yield Fork([branch.play(told, run) for branch in state.branches])
        except StateError:
            run.note("ParallelStateFailed", state.name)
            raise
        run.note("ParallelStateSucceeded", state.name)
        return result

    @staticmethod
    def _handling(
        state: State, data: Any, context: Mapping[str, Any], run: Run, work: Callable[..., Fiber]
    ) -> Generator[Effect, Any, tuple[Any, str | None]]:
        """Do it, and see to what fails by Retry and Catch."""
        made = [0] * len(state.retriers)
        while True:
            try:
                result = yield from work(state, data, context, run)
                if state.selector is not None:
                    result = state.selector(result, context)
                output = put(state.result_path, data, result)
                if len(json.dumps(output)) > MAX_DATA:
                    raise StateError("States.DataLimitExceeded", state.name)
                return output, state.next
            except StateError as failure:
                position = next((i for i, r in enumerate(state.retriers) if handles(r, failure.error)), None)
                if position is not None and made[position] < state.retriers[position].get("MaxAttempts", 3):
                    seconds = _pause(state.retriers[position], made[position], run.rng)
                    made[position] += 1
                else:
                    catcher = next((c for c in state.catchers if handles(c, failure.error)), None)
                    if catcher is None:
                        raise
                    trouble = {"Error": failure.error, "Cause": failure.cause}
                    return put(catcher["ResultPath"], data, trouble), catcher["Next"]
            yield Sleep(seconds)
            # The state is not entered anew: its EnteredTime stays. But it costs a transition.
            run.transition()
            context = {**context, "State": {**context["State"], "RetryCount": sum(made)}}


def _pause(retrier: Mapping[str, Any], made: int, rng: random.Random) -> float:
    seconds = float(retrier.get("IntervalSeconds", 1)) * float(retrier.get("BackoffRate", 2.0)) ** made
    seconds = min(seconds, float(retrier.get("MaxDelaySeconds", seconds)))
    return rng.uniform(0, seconds) if retrier.get("JitterStrategy") == "FULL" else seconds
