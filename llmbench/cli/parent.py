"""For an engine that is there for the process that started it, and is to end with it, however that ends."""

from __future__ import annotations

import logging
import os
import signal
import threading

logger = logging.getLogger("llmbench.engine")

_STDIN = 0


def end_with_parent() -> None:
    """Have this process told to stop, as by SIGTERM, once its standard input ends.

    That is a pipe, of which the parent alone has the other end: the kernel closes it, also if the parent is killed.
    """
    threading.Thread(target=_wait, name="parent", daemon=True).start()


def _wait() -> None:
    while os.read(_STDIN, 4096):
        pass
    logger.warning("what started this engine has ended without a word: the engine ends, too")
    os.kill(os.getpid(), signal.SIGTERM)
