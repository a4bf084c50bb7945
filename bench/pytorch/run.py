"""A training step beside PyTorch and MONAI: same batch, same loss, time, memory. `make bench` runs this.

Prints tables and writes them to a file. Exits with 1 when the two programs do not compute the same loss."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
TITLE = "A training step beside PyTorch"
PACKAGES = ("torch", "monai", "numpy", "einops")
VOLUMES = {"tiny": 2}  # per step; of the larger recipes 1, so that PyTorch's activations fit a workstation


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="[tiny base; with --quick tiny]")
    parser.add_argument("--voco", type=Path, default=PROJECT / "build" / "voco", help="the program")
    parser.add_argument("--work", type=Path, default=PROJECT / "build" / "bench-step", help="for batches, weights, measurements")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both programs")
    parser.add_argument("--precisions", nargs="+", choices=["float32", "bf16"], default=["float32", "bf16"])
    parser.add_argument("--limit", type=float, default=540, metavar="SECONDS", help="for one process of PyTorch")
    parser.add_argument("--quick", action="store_true", help="a few minutes: no search for PyTorch's best, single rounds")
    parser.add_argument("--large-batch", action="store_true", help="with --quick, too: 44 crops of base in 4 GB")
    parser.add_argument("--resume", action="store_true", help="measure only what an earlier run did not come to")
    parser.add_argument("--out", type=Path, help="[bench/results/step-PROCESSOR.md; nothing with --quick or other recipes]")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    warnings.filterwarnings("ignore")  # MONAI announces coming changes
    load = os.getloadavg()
    sys.path.insert(0, str(PROJECT / "bench"))
    import report
    import tables
    from large_batch import LargeBatch, measure_large_batch
    from pair import Pair, measure_pair
    from processes import Settings
    from store import stored
    from workload import make_workload

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
    standard = not arguments.recipes
    pairs = []
    for recipe in arguments.recipes or (["tiny"] if settings.quick else ["tiny", "base"]):
        workload = make_workload(settings.voco, recipe, VOLUMES.get(recipe, 1), settings.work / recipe)
        for precision in arguments.precisions:
            file = settings.work / f"pair-{recipe}-{precision}{'-quick' * settings.quick}.json"
            plain = stored(file, settings.resume, lambda: asdict(measure_pair(settings, workload, precision)))
            pairs.append(Pair.from_dict(plain))
    sections = [tables.steps_section(pairs), tables.arithmetic_section(pairs), tables.losses_section(pairs)]
    if not settings.quick:
        sections += [tables.trials_section(pairs), tables.published_section(pairs)]
    if arguments.large_batch or (standard and not settings.quick):
        batches = []
        for precision in arguments.precisions:
            file = settings.work / f"large-batch-{precision}.json"
            plain = stored(file, settings.resume, lambda: asdict(measure_large_batch(settings, precision)))
            batches.append(LargeBatch.from_dict(plain))
        sections.append(tables.large_batch_section(batches))
    machine = report.machine(settings.voco, load, PACKAGES)
    policy = os.environ.get("OMP_WAIT_POLICY", "not set")
    machine.append(["threads", f"{settings.threads} of each program, OMP_WAIT_POLICY {policy}"])
    text = report.markdown(TITLE, sections, machine, "make bench" + " QUICK=1" * settings.quick)
    print(text)
    out = arguments.out
    if out is None and not settings.quick and standard and len(arguments.precisions) == 2:
        out = PROJECT / "bench" / "results" / f"step-{report.processor().slug()}.md"
    report.write(text, out)
    return report.exit_status(sections)


if __name__ == "__main__":
    sys.exit(main())
