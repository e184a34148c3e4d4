"""The first code in a function's process: `python -S bootstrap.py <fd> <runtime folder>`.

It runs without site-packages, so that a function finds only what its own package ships and the runtime client. The
descriptor is the reading end of a pipe whose writing end is LocalStack's: it closes when LocalStack is gone, however
that came about.
"""

import os
import signal
import sys
import threading


def _die_with_localstack(descriptor: int) -> None:
    os.read(descriptor, 1)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Arrange the process as Lambda does, and hand it to the runtime client."""
    descriptor, runtime = int(sys.argv[1]), sys.argv[2]
    threading.Thread(target=_die_with_localstack, args=(descriptor,), daemon=True).start()
    # Lambda looks into the function's package first and into the runtime's folder last.
    sys.path[0] = os.environ["LAMBDA_TASK_ROOT"]
    if runtime not in sys.path:
        sys.path.append(runtime)

    from awslambdaric.__main__ import main as serve

    sys.argv = ["bootstrap", os.environ["_HANDLER"]]
    serve(sys.argv)


if __name__ == "__main__":
    main()
