"""A process that passes a few crops forward and backward through the encoder, with one set of choices after the other, in
several rounds, and prints as JSON the shortest times of a crop."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

import torch
from building import as_chosen, autocast, build_model
from choices import Choices
from reference import model_input
from safetensors.torch import load_file
from stopwatch import Duration, Stopwatch, prepare_process
from torch import nn
from workload import Workload, read_workload


def pass_once(model: nn.Module, x: torch.Tensor, choices: Choices, precision: str) -> tuple[Duration, torch.Tensor]:
    """Both ways; returns the embeddings, too."""
    model.zero_grad(set_to_none=True)
    watch = Stopwatch()
    with autocast(precision):
        parts = as_chosen(x, choices).split(choices.crops_at_once or len(x))
        e = torch.cat([model.embed(part) for part in parts])
    e.float().square().sum().backward()
    return watch.read(), e.detach().float()


def try_choices(workload: Workload, every: list[Choices], precision: str, crops: int, rounds: int) -> list[dict]:
    """In the order of `every`; the first round warms up."""
    x = model_input(load_file(workload.batch))[:crops]
    with torch.no_grad():
        plain = build_model(workload, Choices(crops_at_once=1))
        wanted = torch.cat([plain.embed(crop) for crop in x.split(1)])
    models = [build_model(workload, choices) for choices in every]
    found = [{"wall": float("inf"), "cpu": float("inf"), "difference": 0.0} for _ in every]
    for i in range(rounds + 1):
        for choices, model, best in zip(every, models, found):
            took, e = pass_once(model, x, choices, precision)
            best["difference"] = max(best["difference"], ((e - wanted).norm() / wanted.norm()).item())
            if i > 0:
                best["wall"], best["cpu"] = min(best["wall"], took.wall / crops), min(best["cpu"], took.cpu / crops)
            print(f"{choices}: {took.wall / crops:.2f} s, CPU {took.cpu / crops:.2f} s a crop", file=sys.stderr, flush=True)
            model.zero_grad(set_to_none=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("folder", type=Path, help="of a workload")
    parser.add_argument("--choices", type=json.loads, required=True, help="JSON, a list")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--crops", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tuned", action="store_true", help="subnormal numbers are zero")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # MONAI announces coming changes
    prepare_process(arguments.threads, arguments.tuned)
    every = [Choices(**choices) for choices in arguments.choices]
    workload = read_workload(arguments.recipe, arguments.folder)
    print(json.dumps(try_choices(workload, every, arguments.precision, arguments.crops, arguments.rounds)))


if __name__ == "__main__":
    main()
