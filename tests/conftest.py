"""What holds for all tests: each belongs to the layer that its folder names, and unit tests have no network."""

import socket
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
BUDGETS = {"unit": 1.5, "simulation": 2.0, "terraform": 3.5, "security": 1.0, "localstack": 11.0}
"""Minutes that each layer may take, in the order in which they run. The last also judges every request of the run."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass
class Layer:
    """How a layer went."""

    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)


_own_ports: set[int] = set()
_layers: dict[str, Layer] = {name: Layer() for name in BUDGETS}


def _layer(item: pytest.Item) -> str:
    name = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
    if name not in BUDGETS:
        raise pytest.UsageError(f"{item.nodeid} is in no layer: move it into tests/ + one of {', '.join(BUDGETS)}.")
    return name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = list(BUDGETS)
    for item in items:
        item.add_marker(_layer(item))
    items.sort(key=lambda item: order.index(_layer(item)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    start = time.monotonic()
    try:
        return (yield)
    finally:
        _layers[_layer(item)].seconds += time.monotonic() - start


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    layer = _layers.get(Path(report.nodeid).parts[1])
    if layer and (report.when == "call" or report.outcome != "passed"):
        layer.outcomes[report.outcome] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("layers")
    for name, minutes in BUDGETS.items():
        layer = _layers[name]
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(layer.outcomes.items())) or "no tests run"
        over = "  OVER ITS BUDGET" if layer.seconds > minutes * 60 else ""
        terminalreporter.write_line(f"{name:<11}{layer.seconds:6.1f} s of {minutes * 60:3.0f} s  {counts}{over}")


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit tests reach no server but one that they have started themselves, on the loopback."""
    if request.node.get_closest_marker("unit") is None:
        return

    def guarded(method: str) -> Any:
        real = getattr(socket.socket, method)

        def call(self: socket.socket, address: Any, *rest: Any) -> Any:
            own = method == "bind" or address[1] in _own_ports
            if self.family != socket.AF_UNIX and not (own and address[0] in LOOPBACK):
                raise OSError(f"{method} to {address}: a unit test has no network; tests/simulation may have.")
            answer = real(self, address, *rest)
            if method == "bind" and self.family != socket.AF_UNIX:
                _own_ports.add(self.getsockname()[1])
            return answer

        return call

    for method in ("connect", "connect_ex", "bind"):
        monkeypatch.setattr(socket.socket, method, guarded(method))
