"""One recipe in one precision: which choices suit PyTorch best, then whole steps of both programs, alternately."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass, field
from statistics import median

from choices import COMPILED, EAGER, ONE_CROP, PUBLISHED, SMALLEST, Choices
from processes import NotMeasured, Settings, pytorch_steps, pytorch_trials, voco_steps
from store import stored
from workload import Workload, replayed_losses

TRIAL_CROPS, TRIAL_ROUNDS = 2, 2
# Embeddings may differ by that much from those of the plain model in float32 (relative L2), for rounding.
MOST_DIFFERENCE = {"float32": 1e-4, "bf16": 5e-2}


@dataclass
class Trial:
    """How long the encoder takes a crop, forward and backward."""

    choices: Choices
    wall: float = float("inf")  # seconds
    cpu: float = float("inf")
    difference: float = float("inf")  # of the embeddings
    failure: str = ""


@dataclass
class Steps:
    """What a program needed for whole steps, in all rounds."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: float = float("inf")  # the fewest
    peak_memory: int = 0  # bytes

    def add(self, seconds: list[float], cpu_seconds: float, peak_memory: int) -> None:
        self.seconds += seconds
        self.cpu_seconds = min(self.cpu_seconds, cpu_seconds)
        self.peak_memory = max(self.peak_memory, peak_memory)

    def add_pytorch(self, taken: dict) -> None:
        counted = [step for step in taken["steps"] if step["counts"]]
        self.add([step["wall"] for step in counted], min(step["cpu"] for step in counted), taken["peak_memory_bytes"])

    def add_voco(self, bench: dict) -> None:
        seconds = [bench[key] for key in ("fastest_step", "seconds_per_step", "slowest_step")]  # all three there are
        self.add(seconds, bench["cpu_seconds_per_step"], bench["peak_memory_bytes"])

    @property
    def median(self) -> float:
        return median(self.seconds)


@dataclass
class Pair:
    recipe: str
    volumes: int
    crops: int
    precision: str
    load: float  # average when the steps began
    choices: Choices  # PyTorch's
    trials: list[Trial]  # that led to them, the best first; none where none were made
    clock: str  # that they were compared by
    voco: Steps
    pytorch: Steps
    published: Steps | None  # PyTorch with the choices of the published code and glibc's own habits
    voco_losses: list[float]  # of two steps in float32, on the same batch as
    pytorch_losses: list[float]
    bench: dict  # what voco bench --json said of the last round

    @property
    def name(self) -> str:
        return f"{self.recipe}, {self.precision}"

    @classmethod
    def from_dict(cls, plain: dict) -> Pair:
        """The inverse of dataclasses.asdict."""
        made = {key: plain[key] and Steps(**plain[key]) for key in ("voco", "pytorch", "published")}
        made |= {"choices": Choices(**plain["choices"]), "trials": [_trial(trial) for trial in plain["trials"]]}
        return cls(**plain | made)


def _trial(plain: dict) -> Trial:
    return Trial(**plain | {"choices": Choices(**plain["choices"])})


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _try(settings: Settings, workload: Workload, precision: str, every: list[Choices]) -> list[Trial]:
    try:
        found = pytorch_trials(settings, workload, every, precision, TRIAL_CROPS, TRIAL_ROUNDS)
    except NotMeasured as failure:
        _say(f"{', '.join(map(str, every))}: {failure}")
        return [Trial(choices, failure=str(failure)) for choices in every]
    trials = [Trial(choices, **result) for choices, result in zip(every, found)]
    for trial in trials:
        if not trial.difference <= MOST_DIFFERENCE[precision]:
            trial.failure = "embeddings are not the same"
    return trials


def _search(settings: Settings, workload: Workload, precision: str) -> list[Trial]:
    """The best first, those that failed last. What was tried before a run was stopped is not tried again."""

    def attempt(name: str, every: list[Choices]) -> list[Trial]:
        file = settings.work / f"trial-{workload.recipe}-{precision}-{name}.json"
        made = stored(file, settings.resume, lambda: [asdict(trial) for trial in _try(settings, workload, precision, every)])
        return [_trial(plain) for plain in made]

    trials = attempt("eager", list(EAGER))
    for number, choices in enumerate(COMPILED):
        trials += attempt(f"compiled{number}", [choices])
    return sorted(trials, key=lambda trial: (trial.failure != "", getattr(trial, settings.clock)))


def _first_that_fits(
    settings: Settings, workload: Workload, precision: str, every: list[Choices], steps: int
) -> tuple[Choices, dict]:
    for choices in every:
        try:
            return choices, pytorch_steps(settings, workload, choices, precision, steps)
        except NotMeasured as failure:
            _say(f"{choices}: {failure}")
    raise RuntimeError(f"PyTorch can take no step of {workload.recipe} on this machine")


def _published(settings: Settings, workload: Workload, precision: str) -> Steps | None:
    steps = Steps()
    try:
        steps.add_pytorch(pytorch_steps(settings, workload, PUBLISHED, precision, 1, tuned=False))
    except NotMeasured as failure:
        _say(f"as published: {failure}")
        return None
    return steps


def measure_pair(settings: Settings, workload: Workload, precision: str) -> Pair:
    _say(f"{workload.recipe}, {precision}")
    trials = [] if settings.quick else _search(settings, workload, precision)
    left = [trial.choices for trial in trials if not trial.failure] or [ONE_CROP]
    left += [SMALLEST] * (SMALLEST not in left)
    load = os.getloadavg()[0]
    voco, pytorch, bench, taken = Steps(), Steps(), {}, {}
    for _ in range(1 if settings.quick else 2):
        bench = voco_steps(settings, workload, precision, steps=3)
        voco.add_voco(bench)
        choices, taken = _first_that_fits(settings, workload, precision, left, 1 if settings.quick else 2)
        left = [choices]
        pytorch.add_pytorch(taken)
    return Pair(
        recipe=workload.recipe,
        volumes=workload.volumes,
        crops=workload.all_crops,
        precision=precision,
        load=load,
        choices=left[0],
        trials=trials,
        clock=settings.clock,
        voco=voco,
        pytorch=pytorch,
        published=None if settings.quick else _published(settings, workload, precision),
        voco_losses=replayed_losses(settings.voco, workload, 2, settings.threads),
        pytorch_losses=[step["loss"] for step in taken["steps"][:2]],
        bench=bench,
    )
