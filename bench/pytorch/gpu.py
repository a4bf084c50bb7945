"""PyTorch's step on a GPU: as published, and the fastest that its settings give, each beside the machine's own best.

Keeps what was measured in a file as it comes, and goes no further than its budget of seconds. A setting that fails (memory,
compilation, time) is a row that says why. Prints a table; scripts/bench-gpu writes the comparison with voco."""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from gpu_plan import PLAN, Setting, autotuned, in_less_memory
from workload import Workload, make_workload, read_workload

HERE = Path(__file__).resolve().parent
START_LIMIT, MACHINE_LIMIT = 90, 60  # seconds
MOST_FAILED_STARTS = 2
COMPILING_THREADS = 4  # of each process that compiles ahead
LEAST_LEFT = 3  # seconds kept for the table
# GFLOP of a crop, forward and backward once, by feature size, side and projector: src/train/step_arithmetic.c, whose sum is
# in proportion to the crops. `voco bench --json` gives it as gflop_per_step.
GFLOP_OF_CROP = {(48, 64, 1024): 2359.254199808 / 11}


class NotMeasured(Exception):
    """The process ended, or was ended; the text says why."""


def _environment(log: Path) -> dict[str, str]:
    cache = str((log.parent / "inductor").resolve())
    return os.environ | {"PYTHONWARNINGS": "ignore", "TORCHINDUCTOR_CACHE_DIR": cache}


def _end(process: subprocess.Popen) -> None:
    """Also the processes that it compiles in."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


class Compilations:
    """gpu_precompile.py for every compiled setting, while the GPU measures the others."""

    def __init__(self, workload: Workload, device: str, log: Path, plan: list[Setting]) -> None:
        self.processes = {}
        environment = _environment(log) | {"TORCHINDUCTOR_COMPILE_THREADS": str(COMPILING_THREADS)}
        for setting in plan:
            if setting.choices.compiled:
                command = [sys.executable, str(HERE / "gpu_precompile.py"), workload.recipe, str(workload.batch.parent)]
                command += ["--device", device, "--name", setting.name]
                self.processes[setting.name] = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log.open("a"), stderr=subprocess.STDOUT, env=environment,
                    start_new_session=True,
                )  # fmt: skip

    def wait(self, name: str, limit: float) -> None:
        """Whatever comes of it: what is not in the cache is compiled when it is measured."""
        if name not in self.processes:
            return
        try:
            status = self.processes[name].wait(max(limit, 0))
            print(f"{name}: compiled ahead, status {status}", file=sys.stderr, flush=True)
        except subprocess.TimeoutExpired:
            print(f"{name}: not compiled within {limit:.0f} s more", file=sys.stderr, flush=True)
            _end(self.processes[name])

    def end(self) -> None:
        for process in self.processes.values():
            _end(process)


class WorkerProcess:
    """gpu_worker.py. What it prints goes to a log."""

    def __init__(self, workload: Workload, device: str, log: Path) -> None:
        self.log = log
        command = [sys.executable, str(HERE / "gpu_worker.py"), workload.recipe, str(workload.batch.parent), "--device", device]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log.open("a"), text=True,
            env=_environment(log),
            start_new_session=True,
        )  # fmt: skip
        self.answers: queue.Queue = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self._answer(START_LIMIT)
        except BaseException:
            self.end()
            raise

    def _read(self) -> None:
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put(None)

    def _answer(self, limit: float) -> dict:
        try:
            line = self.answers.get(timeout=limit)
        except queue.Empty:
            raise NotMeasured(f"not done within {limit:.0f} s") from None
        if line is None:
            words = self.log.read_text(errors="replace").strip().splitlines()
            raise NotMeasured(f"the process ended with status {self.process.wait()}: {words[-1][:200] if words else ''}")
        return json.loads(line)

    def ask(self, request: dict, limit: float) -> dict:
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer says how it ended
        return self._answer(limit)

    def end(self) -> None:
        _end(self.process)


class Measurement:
    def __init__(self, arguments: argparse.Namespace, workload: Workload) -> None:
        self.arguments, self.workload = arguments, workload
        self.deadline = time.monotonic() + arguments.budget
        self.log = arguments.work / "gpu-worker.log"
        self.log.write_text("")
        self.worker: WorkerProcess | None = None
        self.compilations: Compilations | None = None
        self.failed_starts = 0
        size = (workload.feature_size, workload.roi, workload.projector)
        gflop = arguments.gflop or GFLOP_OF_CROP.get(size, 0) * workload.all_crops
        self.results: dict = {
            "recipe": workload.recipe, "volumes": workload.volumes, "crops": workload.all_crops, "gflop_per_step": gflop,
            "machine": {}, "settings": [],
        }  # fmt: skip

    def left(self) -> float:
        return self.deadline - time.monotonic() - LEAST_LEFT

    def keep(self) -> None:
        unfinished = self.arguments.out.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(self.results, indent=1))
        unfinished.rename(self.arguments.out)

    def ask(self, request: dict, limit: float) -> dict:
        """The answer, or what failed; a process that failed is replaced by the next request, but if the replacement cannot start
        either, nothing more is tried."""
        try:
            if self.worker is None:
                self.failed_starts += 1
                if self.failed_starts > MOST_FAILED_STARTS:
                    return {"failure": "skipped: no process can start"}
                self.worker = WorkerProcess(self.workload, self.arguments.device, self.log)
                self.failed_starts = 0
            said = self.worker.ask(request, min(limit, max(self.left(), 1)))
        except NotMeasured as failure:
            said = {"failure": str(failure), "broken": True}
        if said.get("broken"):
            self.end()
        return said

    def end(self) -> None:
        if self.worker is not None:
            self.worker.end()
            self.worker = None

    def take_machine(self) -> None:
        self.results["machine"] = self.ask({"do": "machine", "quick": self.arguments.quick}, MACHINE_LIMIT)
        self.keep()
        print(json.dumps(self.results["machine"]), file=sys.stderr, flush=True)

    def take(self, setting: Setting) -> dict:
        row = {"name": setting.name, "choices": str(setting.choices), "options": setting.options}
        row |= {"precision": setting.precision, "best": setting.best}
        if self.arguments.quick:
            setting = replace(setting, steps=1, needs=0, limit=600)
        if self.left() < setting.needs:
            row["failure"] = f"skipped: {max(self.left(), 0):.0f} s of the budget left"
        else:
            row |= self.ask({"do": "measure", "setting": setting.as_dict()}, setting.limit)
        self.results["settings"].append(row)
        self.keep()
        what = row.get("failure") or f"{row['median_seconds']:.4f} s a step, {row['whole_seconds']:.0f} s in all"
        print(f"{setting.name}: {what}; {self.left():.0f} s left", file=sys.stderr, flush=True)
        return row

    def run(self, plan: list[Setting]) -> None:
        compiled = []
        self.take_machine()
        self.compilations = Compilations(self.workload, self.arguments.device, self.log, plan)
        for setting in plan:
            self.compilations.wait(setting.name, self.left() - setting.needs)
            row = self.take(setting)
            if row.get("out_of_memory") and setting.choices.checkpointing == "none":
                setting = in_less_memory(setting)
                row = self.take(setting)
            if setting.choices.compiled and "failure" not in row:
                compiled.append((row["median_seconds"], setting))
        if compiled and not self.arguments.quick:
            self.take(autotuned(min(compiled, key=lambda pair: pair[0])[1]))


def same_result(row: dict, results: dict) -> bool:
    """Whether a step computes what the one in float32 does, but for rounding. The gradient of the position bias would miss
    with a fused attention that has none."""
    plain = next((row for row in results["settings"] if row["precision"] == "float32" and "failure" not in row), None)
    if plain is None or row is plain:
        return True
    wanted, found = plain["bias_gradient_norm"], row.get("bias_gradient_norm", plain["bias_gradient_norm"])
    return (
        abs(row["losses"][0] - plain["losses"][0]) <= 5e-2
        and row["embedding_difference"] <= 5e-2
        and 0.5 * wanted <= found <= 2 * wanted
    )


def fastest(results: dict) -> dict | None:
    rows = [row for row in results["settings"] if "failure" not in row and row["best"] and same_result(row, results)]
    return min(rows, key=lambda row: row["median_seconds"], default=None)


def print_table(results: dict) -> None:
    machine = results["machine"]
    peak = machine.get("bf16_flops", 0)
    print(f"{machine.get('device', machine.get('failure'))}: {peak / 1e12:.1f} TFLOP/s in bf16 products, copies "
          f"{machine.get('copy_bytes_per_second', 0) / 1e12:.3f} TB/s; {results['gflop_per_step']:.0f} GFLOP a step")  # fmt: skip
    best = fastest(results)
    print(f"{'':50} {'s/step':>8} {'from':>8} {'to':>8} {'TFLOP/s':>8} {'peak':>6} {'GiB':>6} {'first':>6}  loss      embed.")
    for row in results["settings"]:
        if "failure" in row:
            print(f"{row['name']:50} {row['failure'][:110]}")
            continue
        rate = results["gflop_per_step"] * 1e9 / row["median_seconds"]
        share = f"{100 * rate / peak:5.1f}%" if peak else ""
        difference = "" if row["embedding_difference"] is None else f"{row['embedding_difference']:.0e}"
        flag = " <- best" * (row is best) + " NOT THE SAME RESULT" * (not same_result(row, results))
        print(f"{row['name']:50} {row['median_seconds']:8.4f} {min(row['seconds']):8.4f} {max(row['seconds']):8.4f} "
              f"{rate / 1e12:8.1f} {share:>6} {row['peak_memory_bytes'] / 2**30:6.1f} {row['first_step_seconds']:6.1f}  "
              f"{row['losses'][0]:.6f}  {difference}{flag}")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="base")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--budget", type=float, default=240, metavar="SECONDS", help="for all of it")
    parser.add_argument("--volumes", type=int, default=4, help="a step; S + K = 11 crops each")
    parser.add_argument("--work", type=Path, default=Path("build/bench-gpu"), help="for the batch, the weights, the log")
    parser.add_argument("--out", type=Path, help="what was measured, JSON [WORK/pytorch.json]")
    parser.add_argument("--voco", type=Path, help="the program; makes the batch where WORK has none")
    parser.add_argument("--gflop", type=float, default=0, help="of a step, by voco bench; its count for base is known")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these settings")
    parser.add_argument("--quick", action="store_true", help="single steps, small products: a trial of this program")
    parser.add_argument("--prepare", action="store_true", help="make batch and weights, measure nothing")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.out = arguments.out or arguments.work / "pytorch.json"
    folder = arguments.work / "batch"
    if arguments.voco:
        workload = make_workload(arguments.voco.resolve(), arguments.recipe, arguments.volumes, folder)
    else:
        workload = read_workload(arguments.recipe, folder)
    if arguments.prepare:
        return 0
    plan = [setting for setting in PLAN if arguments.only is None or setting.name in arguments.only]
    measurement = Measurement(arguments, workload)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was measured is printed, and no process stays
    try:
        measurement.run(plan)
    finally:
        measurement.end()
        if measurement.compilations:
            measurement.compilations.end()
        measurement.keep()
        print_table(measurement.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
