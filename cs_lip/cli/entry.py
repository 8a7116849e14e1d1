"""The program ``cs-lip``. Nothing heavy is imported here, so that Ctrl-C is heard from the first moment on."""

import os
import signal
from types import FrameType

from cs_lip.cli.exit_codes import INTERRUPTED


def run() -> None:
    """Import the commands, which takes seconds, and run the one that was asked for."""
    before = signal.getsignal(signal.SIGINT)
    # Not as a KeyboardInterrupt: some imports print it or turn it into an ImportError. A shell's background job
    # ignores SIGINT, and still does here.
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from cs_lip.cli.main import main

    signal.signal(signal.SIGINT, before)
    main()


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)  # there is nothing yet to clean up
