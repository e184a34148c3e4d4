"""A folder that holds the runtime client and nothing else of LocalStack's own packages."""

from __future__ import annotations

import os
import tempfile
import threading
from importlib import metadata
from pathlib import Path

_DISTRIBUTIONS = ("awslambdaric", "simplejson", "snapshot_restore_py")
_lock = threading.Lock()
_folder: Path | None = None


def runtime_folder() -> Path:
    """Return the folder with links to the runtime client, made at the first call."""
    global _folder
    with _lock:
        if _folder is None:
            folder = Path(tempfile.mkdtemp(prefix="lambda-runtime-"))
            for name in _DISTRIBUTIONS:
                _link(metadata.distribution(name), folder)
            _folder = folder
        return _folder


def _link(distribution: metadata.Distribution, folder: Path) -> None:
    """Link what the distribution has at the top of site-packages into the folder."""
    tops = {Path(file).parts[0] for file in distribution.files or ()}
    for top in sorted(tops - {"..", "__pycache__"}):
        target = Path(str(distribution.locate_file(top)))
        if target.exists():
            os.symlink(target, folder / top)
