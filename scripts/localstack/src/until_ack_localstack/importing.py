"""Changing a module of LocalStack when, and only when, LocalStack itself imports it.

LocalStack loads a service at its first request. To import them all for the sake of a few changes would double the time
that it takes to start.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_changes: dict[str, list[Callable[[Any], None]]] = {}


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        changes = _changes.pop(fullname, None)
        if changes is None:
            return None
        # No longer listed, so this asks the other finders.
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            for change in changes:
                change(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


def when_imported(name: str, change: Callable[[Any], None]) -> None:
    """Call `change` with the module once it is there: at once, or when it is imported."""
    if name in sys.modules:
        change(sys.modules[name])
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _changes.setdefault(name, []).append(change)
