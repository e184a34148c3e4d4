"""Executions: that one is started once, stops when it is told to, and times out in time.

LocalStack sees StopExecution only between states, and in a Wait: a task went on until its own timeout. Here whoever
waits on behalf of an execution is woken when it ends.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from localstack.aws.api import RequestContext

from until_ack_localstack.importing import when_imported
from until_ack_localstack.states import tokens

# An answer that was accepted in the last moment reaches its state within this time.
_LAST_MOMENT = 10.0
_STEPFUNCTIONS = "localstack.services.stepfunctions"
_COMPONENT = f"{_STEPFUNCTIONS}.asl.component"


def install() -> None:
    """Change how executions start, wait and end."""
    when_imported(f"{_STEPFUNCTIONS}.asl.eval.environment", _change_environment)
    when_imported(f"{_COMPONENT}.state.state_execution.execute_state", _change_tasks)
    when_imported(f"{_COMPONENT}.state.state_wait.wait_function.wait_function", _change_wait)
    when_imported(f"{_COMPONENT}.common.retry.retrier_decl", _change_retry)
    when_imported(f"{_COMPONENT}.program.program", _change_program)
    when_imported(f"{_STEPFUNCTIONS}.backend.execution_worker", _change_start)
    when_imported(f"{_STEPFUNCTIONS}.backend.execution", _change_events)
    when_imported(f"{_STEPFUNCTIONS}.provider", _change_provider)


@contextmanager
def _woken_by_the_end(env: Any) -> Iterator[threading.Event]:
    """Give an event that is set when what is evaluated in this environment is to go no further."""
    event = threading.Event()
    with env._state_mutex:
        if env.is_running():
            env.until_ack_waiting.add(event)
        else:
            event.set()
    try:
        yield event
    finally:
        with env._state_mutex:
            env.until_ack_waiting.discard(event)


def _pause(env: Any, seconds: float) -> None:
    with _woken_by_the_end(env) as ended:
        ended.wait(seconds)


def _change_environment(module: Any) -> None:
    environment = module.Environment
    initialise = environment.__init__

    def with_waiting(self: Any, *args: Any, **kwargs: Any) -> None:
        initialise(self, *args, **kwargs)
        self.until_ack_waiting = set()

    def waking(change: Callable[..., None]) -> Callable[..., None]:
        def change_and_wake(self: Any, *args: Any, **kwargs: Any) -> None:
            with self._state_mutex:
                change(self, *args, **kwargs)
                for event in self.until_ack_waiting:
                    event.set()

        return change_and_wake

    environment.__init__ = with_waiting
    for name in ("set_ended", "set_error", "set_timed_out", "set_stop"):
        setattr(environment, name, waking(getattr(environment, name)))


def _change_tasks(module: Any) -> None:
    def evaluate_with_timeout(self: Any, env: Any) -> None:
        self.timeout.eval(env=env)
        seconds = env.stack.pop()
        frame = env.open_frame()
        frame.states.reset(input_value=env.states.get_input())
        frame.stack = copy.deepcopy(env.stack)
        tokens.renew(frame)
        evaluation = _Evaluation(self, frame)
        with _woken_by_the_end(env) as woken:
            evaluation.start(woken)
            _await(frame, seconds, woken)
            if tokens.close(frame) and env.is_running():
                evaluation.done.wait(_LAST_MOMENT)
            finished = evaluation.done.is_set()
        frame.set_ended()
        tokens.release(frame)
        env.close_frame(frame)
        if not env.is_running():
            return
        if not finished:
            raise module.EvalTimeoutError()
        if evaluation.error is not None:
            raise evaluation.error
        _keep(self, env, frame.stack.pop())

    module.ExecutionState._evaluate_with_timeout = evaluate_with_timeout


class _Evaluation:
    """A state that is evaluated in a thread of its own, so that its timeout can be kept."""

    def __init__(self, state: Any, frame: Any) -> None:
        self.done = threading.Event()
        self.error: Exception | None = None
        self._state = state
        self._frame = frame

    def start(self, woken: threading.Event) -> None:
        threading.Thread(target=self._run, args=(woken,), daemon=True).start()

    def _run(self, woken: threading.Event) -> None:
        try:
            self._state._eval_execution(self._frame)
        except Exception as error:
            self.error = error
        self.done.set()
        woken.set()


def _await(frame: Any, seconds: float, woken: threading.Event) -> None:
    deadline = time.monotonic() + seconds
    while not woken.wait(max(0.0, deadline - time.monotonic())):
        # The time of an activity's task is counted again from when a worker takes it. LocalStack counts it once.
        started = tokens.started_at(frame)
        if started is None or started + seconds <= time.monotonic():
            return
        deadline = started + seconds


def _keep(state: Any, env: Any, output: Any) -> None:
    """Do with a state's result what the state says, as LocalStack does."""
    env.stack.append(output)
    if not state._is_language_query_jsonpath():
        env.states.set_result(output)
    if state.assign_decl:
        state.assign_decl.eval(env=env)
    if state.result_selector:
        state.result_selector.eval(env=env)
    if state.result_path:
        state.result_path.eval(env)
    else:
        env.states.reset(input_value=env.stack.pop())


def _change_wait(module: Any) -> None:
    """LocalStack's Wait misses a stop that comes just before it sleeps."""
    module.WaitFunction._wait_interval = lambda self, env, wait_seconds: _pause(env, wait_seconds)


def _change_retry(module: Any) -> None:
    """LocalStack sleeps between retries whatever happens to the execution."""

    def eval_body(self: Any, env: Any) -> None:
        self.error_equals.eval(env)
        if not env.stack.pop():
            env.stack.append(module.RetrierOutcome.Skipped)
            return
        self.max_attempts.eval(env=env)
        if env.stack.pop() == module.MaxAttemptsOutcome.EXHAUSTED:
            env.stack.append(module.RetrierOutcome.Failed)
            return
        for part in (self.interval_seconds, self.backoff_rate, self.max_delay_seconds, self.jitter_strategy):
            part.eval(env=env)
        _pause(env, env.stack.pop())
        env.stack.append(module.RetrierOutcome.Executed)

    module.RetrierDecl._eval_body = eval_body


def _change_program(module: Any) -> None:
    evaluate = module.Program.eval

    def evaluate_unless_stopped(self: Any, env: Any) -> None:
        try:
            evaluate(self, env)
        except RuntimeError:
            # Stopped before its first state.
            if env.is_running():
                raise
            self._eval_body(env)

    module.Program.eval = evaluate_unless_stopped


def _change_start(module: Any) -> None:
    """LocalStack cannot stop an execution, nor say what it did, before its definition has been parsed."""
    from localstack.services.stepfunctions.asl.eval.program_state import ProgramRunning

    worker = module.ExecutionWorker
    make = worker._get_evaluation_environment
    start = worker.start

    def environment(self: Any) -> Any:
        if self.env is None:
            self.env = make(self)
            self.env._program_state = ProgramRunning()
        return self.env

    def start_with_environment(self: Any) -> None:
        self._get_evaluation_environment()
        start(self)

    worker._get_evaluation_environment = environment
    worker.start = start_with_environment


def _change_events(module: Any) -> None:
    """LocalStack tells of express executions too; on AWS only standard ones make status events."""
    execution = module.Execution
    publish = execution.publish_execution_status_change_event

    def publish_standard(self: Any) -> None:
        if self.sm_type == module.StateMachineType.STANDARD:
            publish(self)

    execution.publish_execution_status_change_event = publish_standard


def _change_provider(module: Any) -> None:
    """LocalStack looks for an execution of the same name and then starts one: two requests at once start two."""
    provider = module.StepFunctionsProvider
    start = provider.start_execution
    locks = [threading.Lock() for _ in range(64)]

    def start_execution(
        self: Any, context: RequestContext, state_machine_arn: str, name: str | None = None, **kwargs: Any
    ) -> Any:
        if not name:
            return start(self, context, state_machine_arn, name, **kwargs)
        with locks[hash((state_machine_arn, name)) % len(locks)]:
            return start(self, context, state_machine_arn, name, **kwargs)

    provider.start_execution = start_execution
