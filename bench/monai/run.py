"""The data engine beside MONAI: same voxels, size on disk, preparing, sampling. `make bench-data` runs this.

Prints a table and writes it to a file. Exits with 1 when something wanted was not met."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import warnings
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
TITLE = "The data engine beside MONAI"
PACKAGES = ("monai", "torch", "numpy", "nibabel", "zarr")
PARTS = {"parity": "parity", "size": "cache_size", "preparing": "preparing", "sampling": "sampling"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voco", type=Path, default=PROJECT / "build" / "voco", help="the program")
    parser.add_argument("--bench-sampling", type=Path, default=PROJECT / "build" / "bench" / "bench_sampling")
    parser.add_argument("--ct", type=Path, default=PROJECT.parent / "shared" / "data" / "ct", help="a folder of real CT volumes")
    parser.add_argument("--work", type=Path, default=PROJECT / "build" / "bench-data", help="for volumes and caches (2 GB)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="under two minutes: fewer volumes, single runs")
    parser.add_argument("--out", type=Path, help="[bench/results/data-PROCESSOR.md; nothing with --quick or --only]")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    warnings.filterwarnings("ignore")  # MONAI announces coming changes
    os.environ["PYTHONWARNINGS"] = "ignore"  # in the processes it starts, too
    load = os.getloadavg()
    sys.path.insert(0, str(PROJECT / "bench"))
    import report
    from settings import Settings

    settings = Settings(
        voco=arguments.voco.resolve(),
        bench_sampling=arguments.bench_sampling.resolve(),
        work=arguments.work,
        ct=arguments.ct,
        quick=arguments.quick,
        threads=tuple(arguments.threads),
    )
    settings.work.mkdir(parents=True, exist_ok=True)
    sections = []
    for part in arguments.only:
        start = time.monotonic()
        sections.append(importlib.import_module(PARTS[part]).measure(settings))
        print(f"{part}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    command = " ".join(["make bench-data", *(["QUICK=1"] if arguments.quick else [])])
    text = report.markdown(TITLE, sections, report.machine(settings.voco, load, PACKAGES), command)
    print(text)
    out = arguments.out
    if out is None and not arguments.quick and len(arguments.only) == len(PARTS):
        out = PROJECT / "bench" / "results" / f"data-{report.processor().slug()}.md"
    report.write(text, out)
    return report.exit_status(sections)


if __name__ == "__main__":
    sys.exit(main())
