"""What bf16 changes in a step: how far loss, embeddings, projections and gradient of a program are from its own in float32."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from choices import SMALLEST
from processes import NotMeasured, Settings, pytorch_gradient, voco_gradient
from safetensors import safe_open
from workload import Workload, make_trained_workload, make_workload

CHOICES = SMALLEST  # the plain model, all crops at once, comes out the same, but takes 20 GiB for tiny in float32
TRAINED_STEPS = {"tiny": 40}  # recipes that learn something within minutes
# Of a 3^3 convolution of 2^3 voxels, as encoder10's are, PyTorch 2.15 (oneDNN) leaves parts of the weights' gradient in bf16
# unwritten: whatever was in memory stands there. That says nothing about bf16, so these are compared apart from the others.
ENCODER10 = {f"step0/grad/backbone.encoder10.layer.conv{i}.conv.weight" for i in (1, 2)}


@dataclass(frozen=True)
class Distance:
    """Of one result from another: relative L2, each part as one vector."""

    loss: float  # the total and its three terms
    embeddings: float
    projections: float  # the student's
    gradient: float  # of all parameters that are trained, without
    encoder10: float  # the gradient of its two convolutions' weights
    cosine: float  # of the two gradients


@dataclass(frozen=True)
class Precision:
    name: str  # of recipe and weights
    crops: int
    voco: Distance  # of bf16 from float32
    pytorch: Distance | None = None
    programs: Distance | None = None  # of PyTorch from voco, both in float32
    failure: str = ""  # of PyTorch

    @classmethod
    def from_dict(cls, plain: dict) -> Precision:
        """The inverse of dataclasses.asdict."""
        distances = {key: plain[key] and Distance(**plain[key]) for key in ("voco", "pytorch", "programs")}
        return cls(**plain | distances)


def _apart(reference: safe_open, other: safe_open, names: Sequence[str]) -> tuple[float, float]:
    """Relative L2 distance and cosine of all these tensors as one vector."""
    square = other_square = product = difference = 0.0
    for name in names:
        x, y = (file.get_tensor(name).astype(np.float64).ravel() for file in (reference, other))
        square, other_square, product = square + x @ x, other_square + y @ y, product + x @ y
        difference += (x - y) @ (x - y)
    return math.sqrt(difference / square), float(product / math.sqrt(square * other_square))


def distance(reference: Path, other: Path) -> Distance:
    """Of two files as `voco replay` writes them."""
    with safe_open(reference, "np") as a, safe_open(other, "np") as b:
        gradients, others = ({key for key in file.keys() if key.startswith("step0/grad/")} for file in (a, b))
        if gradients != others:
            raise ValueError(f"gradients of one program only: {sorted(gradients ^ others)}")
        loss, embeddings, projections = (_apart(a, b, [f"step0/{key}"])[0] for key in ("loss", "embedding", "student"))
        gradient, cosine = _apart(a, b, sorted(gradients - ENCODER10))
        return Distance(loss, embeddings, projections, gradient, _apart(a, b, sorted(ENCODER10))[0], cosine)


def measure_precision(settings: Settings, workload: Workload, name: str) -> Precision:
    print(f"{name}: bf16 beside float32", file=sys.stderr, flush=True)
    with TemporaryDirectory(dir=settings.work) as folder:
        files = {(program, p): Path(folder) / f"{program}-{p}" for program in ("voco", "pytorch") for p in ("float32", "bf16")}
        for precision in ("float32", "bf16"):
            voco_gradient(settings, workload, precision, files["voco", precision])
        voco = distance(files["voco", "float32"], files["voco", "bf16"])
        try:
            for precision in ("float32", "bf16"):
                pytorch_gradient(settings, workload, CHOICES, precision, files["pytorch", precision])
        except NotMeasured as failure:
            print(f"{name}: {failure}", file=sys.stderr, flush=True)
            return Precision(name, workload.all_crops, voco, failure=str(failure))
        pytorch = distance(files["pytorch", "float32"], files["pytorch", "bf16"])
        programs = distance(files["voco", "float32"], files["pytorch", "float32"])
        return Precision(name, workload.all_crops, voco, pytorch, programs)


def workloads(settings: Settings, recipe: str, volumes: int) -> dict[str, Callable[[], Workload]]:
    """By name, and how to make them: with initial weights, and with trained ones of recipes that have TRAINED_STEPS."""
    voco, folder, steps = settings.voco, settings.work / recipe, TRAINED_STEPS.get(recipe, 0)
    every = {f"{recipe}, initial weights": lambda: make_workload(voco, recipe, volumes, folder)}
    if steps:
        trained = folder.with_name(f"{recipe}-{steps}-steps")
        name = f"{recipe}, after {steps} steps"
        every[name] = lambda: make_trained_workload(voco, recipe, volumes, steps, trained, settings.threads)
    return every
