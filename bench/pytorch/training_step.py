"""A process that takes whole training steps in PyTorch and prints, as JSON, what each took and its loss."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

import torch
from building import as_chosen, autocast, build_model
from choices import Choices
from reference import model_input, optimizer_of, voco_loss
from safetensors.torch import load_file
from stopwatch import Stopwatch, peak_memory, prepare_process
from workload import LEARNING_RATE, WEIGHT_DECAY, Workload, read_workload


def take_steps(workload: Workload, choices: Choices, precision: str, steps: int) -> list[dict]:
    """After one to warm up, whose loss counts but not its time."""
    batch = load_file(workload.batch)
    x, labels = as_chosen(model_input(batch), choices), batch["labels"]
    model = build_model(workload, choices)
    optimizer = optimizer_of(model, LEARNING_RATE, WEIGHT_DECAY, fused=True)
    taken = []
    for i in range(steps + 1):
        watch = Stopwatch()
        with autocast(precision):
            _, student, teacher = model(x)
        loss = voco_loss(student.float(), teacher.float(), labels)
        optimizer.zero_grad()
        loss[0].backward()
        optimizer.step()
        took = watch.read()
        taken.append({"loss": loss[0].item(), "wall": took.wall, "cpu": took.cpu, "counts": i > 0})
        print(f"step {i}: {took.wall:.2f} s, CPU {took.cpu:.2f} s", file=sys.stderr, flush=True)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("folder", type=Path, help="of a workload")
    parser.add_argument("--choices", type=json.loads, default={}, help="JSON")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tuned", action="store_true", help="subnormal numbers are zero")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # MONAI announces coming changes
    prepare_process(arguments.threads, arguments.tuned)
    workload = read_workload(arguments.recipe, arguments.folder)
    taken = take_steps(workload, Choices(**arguments.choices), arguments.precision, arguments.steps)
    print(json.dumps({"steps": taken, "peak_memory_bytes": peak_memory()}))


if __name__ == "__main__":
    main()
