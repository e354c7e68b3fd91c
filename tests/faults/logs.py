"""A log that an engine writes to a file while a test looks at it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Log:
    """Reads and decodes only what is new. The last line may not be whole yet: it is left for the next time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._text = ""
        self._lines: list[dict[str, Any]] = []

    def text(self) -> str:
        """Return all that was logged so far; nothing if the file is not there yet."""
        self._read()
        return self._text

    def lines(self) -> list[dict[str, Any]]:
        """Return each line so far; every one has to be a JSON object."""
        self._read()
        return list(self._lines)

    def _read(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._text += whole.decode()
        self._lines += [json.loads(line) for line in whole.split(b"\n")[:-1]]
