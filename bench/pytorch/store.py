"""What was measured is kept as it comes, so that a run that was stopped can go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def stored(file: Path, resume: bool, make: Callable[[], Any]) -> Any:
    """What the file holds where a run goes on, else what `make` makes, which is written there: anything JSON can hold."""
    if resume and file.exists():
        return json.loads(file.read_text())
    made = make()
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(made, indent=1))
    unfinished.rename(file)
    return made
