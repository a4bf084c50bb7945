"""A training step beside PyTorch and MONAI: same batch, same loss, time, memory, and what bf16 changes. `make bench` runs this.

Prints tables and writes them to a file. Exits with 1 when something wanted was not met, above all the same loss."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from processes import Settings
    from report import Section

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "monai", "numpy", "einops")
VOLUMES = {"tiny": 2}  # per step; of the larger recipes 1, so that PyTorch's activations fit a workstation
PARTS = ("steps", "large-batch", "precision")
# What tables of bench/results consist of, their names and titles.
RESULTS = {
    PARTS: ("step", "A training step beside PyTorch"),
    ("precision",): ("precision", "What bf16 changes, beside PyTorch"),
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="[tiny base; with --quick tiny]")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="[all; with --quick steps; with RECIPE no large-batch]")
    parser.add_argument("--voco", type=Path, default=PROJECT / "build" / "voco", help="the program")
    parser.add_argument("--work", type=Path, default=PROJECT / "build" / "bench-step", help="for batches, weights, measurements")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both programs")
    parser.add_argument("--precisions", nargs="+", choices=["float32", "bf16"], default=["float32", "bf16"])
    parser.add_argument("--limit", type=float, default=540, metavar="SECONDS", help="for one process of PyTorch")
    parser.add_argument("--quick", action="store_true", help="a few minutes: no search for PyTorch's best, single rounds")
    parser.add_argument("--resume", action="store_true", help="measure only what an earlier run did not come to")
    parser.add_argument("--out", type=Path, help="[bench/results/step- or precision-PROCESSOR.md; nothing if not all of it]")
    return parser.parse_args()


def _steps(settings: Settings, recipes: list[str], precisions: list[str]) -> list[Section]:
    import tables
    from pair import Pair, measure_pair
    from store import stored
    from workload import make_workload

    pairs = []
    for recipe in recipes:
        workload = make_workload(settings.voco, recipe, VOLUMES.get(recipe, 1), settings.work / recipe)
        for precision in precisions:
            file = settings.work / f"pair-{recipe}-{precision}{'-quick' * settings.quick}.json"
            plain = stored(file, settings.resume, lambda: asdict(measure_pair(settings, workload, precision)))
            pairs.append(Pair.from_dict(plain))
    sections = [tables.steps_section(pairs), tables.arithmetic_section(pairs), tables.losses_section(pairs)]
    if not settings.quick:
        sections += [tables.trials_section(pairs), tables.published_section(pairs)]
    return sections


def _large_batch(settings: Settings, precisions: list[str]) -> list[Section]:
    import tables
    from large_batch import LargeBatch, measure_large_batch
    from store import stored

    batches = []
    for precision in precisions:
        file = settings.work / f"large-batch-{precision}.json"
        plain = stored(file, settings.resume, lambda: asdict(measure_large_batch(settings, precision)))
        batches.append(LargeBatch.from_dict(plain))
    return [tables.large_batch_section(batches)]


def _precision(settings: Settings, recipes: list[str]) -> list[Section]:
    import tables
    from precision import Precision, measure_precision, workloads
    from store import stored

    found = []
    for recipe in recipes:
        for name, make in workloads(settings, recipe, VOLUMES.get(recipe, 1)).items():
            file = settings.work / f"precision-{name.replace(',', '').replace(' ', '-')}.json"
            plain = stored(file, settings.resume, lambda: asdict(measure_precision(settings, make(), name)))
            found.append(Precision.from_dict(plain))
    return [tables.precision_section(found)]


def main() -> int:
    arguments = _arguments()
    warnings.filterwarnings("ignore")  # MONAI announces coming changes
    load = os.getloadavg()
    sys.path.insert(0, str(PROJECT / "bench"))
    import report
    from processes import Settings

    others_at_work = load[0] > 0.5 * arguments.threads
    settings = Settings(
        voco=arguments.voco.resolve(),
        work=arguments.work,
        threads=arguments.threads,
        quick=arguments.quick,
        resume=arguments.resume,
        limit=arguments.limit,
        clock="cpu" if others_at_work else "wall",
    )
    settings.work.mkdir(parents=True, exist_ok=True)
    recipes = arguments.recipes or (["tiny"] if settings.quick else ["tiny", "base"])
    left_out = {"large-batch", "precision"} if settings.quick else {"large-batch"} if arguments.recipes else set()
    parts = tuple(part for part in PARTS if part in (arguments.only or set(PARTS) - left_out))
    sections = []
    if "steps" in parts:
        sections += _steps(settings, recipes, arguments.precisions)
    if "large-batch" in parts:
        sections += _large_batch(settings, arguments.precisions)
    if "precision" in parts:
        sections += _precision(settings, recipes)
    name, title = RESULTS.get(parts, RESULTS[PARTS])
    machine = report.machine(settings.voco, load, PACKAGES)
    policy = os.environ.get("OMP_WAIT_POLICY", "not set")
    machine.append(["threads", f"{settings.threads} of each program, OMP_WAIT_POLICY {policy}"])
    command = ["make bench", *["QUICK=1"] * settings.quick, *[f"ONLY=\"{' '.join(parts)}\""] * (arguments.only is not None)]
    text = report.markdown(title, sections, machine, " ".join(command))
    print(text)
    out = arguments.out
    if out is None and not settings.quick and not arguments.recipes and parts in RESULTS and len(arguments.precisions) == 2:
        out = PROJECT / "bench" / "results" / f"{name}-{report.processor().slug()}.md"
    report.write(text, out)
    return report.exit_status(sections)


if __name__ == "__main__":
    sys.exit(main())
