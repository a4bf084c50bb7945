"""A process that takes a workload's first step in PyTorch as far as the gradient, and writes what `voco replay` writes of that:
loss, embeddings, projections, gradients. Prints the loss as JSON."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import torch
from building import as_chosen, autocast, build_model
from choices import Choices
from reference import model_input, voco_loss
from safetensors.torch import load_file, save_file
from stopwatch import prepare_process
from workload import Workload, read_workload


def first_gradient(workload: Workload, choices: Choices, precision: str) -> dict[str, torch.Tensor]:
    batch = load_file(workload.batch)
    model = build_model(workload, choices)
    with autocast(precision):
        e, student, teacher = model(as_chosen(model_input(batch), choices))
    loss = voco_loss(student.float(), teacher.float(), batch["labels"])
    loss[0].backward()
    found = {"loss": loss, "embedding": e, "student": student, "teacher": teacher}
    found |= {f"grad/{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {f"step0/{name}": tensor.detach().float().contiguous() for name, tensor in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("folder", type=Path, help="of a workload")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--choices", type=json.loads, default={}, help="JSON")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--tuned", action="store_true", help="subnormal numbers are zero")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # MONAI announces coming changes
    prepare_process(arguments.threads, arguments.tuned)
    workload = read_workload(arguments.recipe, arguments.folder)
    found = first_gradient(workload, Choices(**arguments.choices), arguments.precision)
    save_file(found, arguments.out)
    print(json.dumps({"loss": found["step0/loss"][0].item()}))


if __name__ == "__main__":
    main()
