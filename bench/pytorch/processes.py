"""Starts the two programs, one process a measurement, so that neither leaves memory or threads behind for the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from choices import Choices
from workload import Workload, run_voco

HERE = Path(__file__).resolve().parent

# By default glibc gives large blocks back to the system at once, and PyTorch spends up to half of its time in page faults.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 34), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}


@dataclass(frozen=True)
class Settings:
    voco: Path  # the program
    work: Path  # for batches, weights and what was measured
    threads: int  # of both programs
    quick: bool
    resume: bool
    limit: float  # seconds that a process of PyTorch may take
    clock: str  # by which choices are compared: cpu or wall


class NotMeasured(Exception):
    """A process of PyTorch ended without a result; the text says why, in a few words."""


def _run_script(settings: Settings, script: str, workload: Workload, tuned: bool, *options: object) -> object:
    command = [sys.executable, HERE / script, workload.recipe, workload.batch.parent, "--threads", settings.threads, *options]
    environment = os.environ | {"OMP_NUM_THREADS": str(settings.threads), "PYTHONWARNINGS": "ignore"}
    environment |= KEEP_MEMORY if tuned else {}
    command += ["--tuned"] * tuned
    words = [str(word) for word in command]
    try:
        # Standard error is shown as it comes: it says how far a long measurement is.
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment, timeout=settings.limit)
    except subprocess.TimeoutExpired:
        raise NotMeasured(f"not done within {settings.limit:.0f} s") from None
    if done.returncode == -signal.SIGKILL:
        raise NotMeasured("killed, most likely for lack of memory")
    if done.returncode != 0:
        raise NotMeasured(f"failed with status {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def pytorch_steps(
    settings: Settings, workload: Workload, choices: Choices, precision: str, steps: int, tuned: bool = True
) -> dict:
    options = ("--choices", json.dumps(choices.as_dict()), "--precision", precision, "--steps", steps)
    return _run_script(settings, "training_step.py", workload, tuned, *options)


def pytorch_trials(
    settings: Settings, workload: Workload, every: list[Choices], precision: str, crops: int, rounds: int
) -> list[dict]:
    text = json.dumps([choices.as_dict() for choices in every])
    options = ("--choices", text, "--precision", precision, "--crops", crops, "--rounds", rounds)
    return _run_script(settings, "encoder_trial.py", workload, True, *options)


def pytorch_gradient(settings: Settings, workload: Workload, choices: Choices, precision: str, out: Path) -> None:
    """Written to a file, with names as voco_gradient's."""
    options = ("--choices", json.dumps(choices.as_dict()), "--precision", precision, "--out", out)
    _run_script(settings, "first_gradient.py", workload, True, *options)


def voco_gradient(settings: Settings, workload: Workload, precision: str, out: Path) -> None:
    run_voco(
        settings.voco, "replay", workload.batch, "--checkpoint", workload.weights, "--precision", precision,
        "--threads", settings.threads, "--out", out,
    )  # fmt: skip


def voco_steps(settings: Settings, workload: Workload, precision: str, steps: int, *options: str) -> dict:
    return json.loads(
        run_voco(
            settings.voco, "bench", "--recipe", workload.recipe, "--batch", workload.volumes, "--precision", precision,
            "--threads", settings.threads, "--steps", steps, "--json", *options,
        )  # fmt: skip
    )
