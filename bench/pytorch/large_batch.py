"""A batch of many crops within little memory: what voco --memory costs, and what PyTorch needs at the least."""

from __future__ import annotations

from dataclasses import dataclass

from choices import SMALLEST
from processes import NotMeasured, Settings, pytorch_steps, voco_steps
from workload import make_workload

RECIPE, VOLUMES, BUDGET = "base", 4, "4G"
BUDGET_BYTES = 4 * 2**30
MOST_SLOWDOWN = 1.4


@dataclass(frozen=True)
class Measured:
    program: str
    seconds: float  # a step
    peak_memory: int = 0  # bytes
    failure: str = ""


@dataclass(frozen=True)
class LargeBatch:
    precision: str
    crops: int
    limited: Measured  # voco with --memory
    unlimited: Measured
    pytorch: Measured  # with the choices that take the least memory

    @classmethod
    def from_dict(cls, plain: dict) -> LargeBatch:
        """The inverse of dataclasses.asdict."""
        return cls(**plain | {key: Measured(**plain[key]) for key in ("limited", "unlimited", "pytorch")})

    @property
    def slowdown(self) -> float:
        return self.limited.seconds / self.unlimited.seconds


def measure_large_batch(settings: Settings, precision: str) -> LargeBatch:
    workload = make_workload(settings.voco, RECIPE, VOLUMES, settings.work / f"{RECIPE}-{VOLUMES}-volumes")

    def voco(*options: str) -> Measured:
        found = voco_steps(settings, workload, precision, 2, *options)
        return Measured(" ".join(("voco", *options)), found["seconds_per_step"], found["peak_memory_bytes"])

    def pytorch() -> Measured:
        name = f"PyTorch, {SMALLEST}"
        try:
            taken = pytorch_steps(settings, workload, SMALLEST, precision, steps=0)  # its first one, which is long enough
        except NotMeasured as failure:
            return Measured(name, 0, failure=str(failure))
        return Measured(name, taken["steps"][0]["wall"], taken["peak_memory_bytes"])

    return LargeBatch(precision, workload.all_crops, voco("--memory", BUDGET), voco(), pytorch())
