"""One batch and one set of weights of a recipe, which both programs compute with."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.01
SEED = 1


@dataclass(frozen=True)
class Workload:
    recipe: str
    batch: Path  # as voco pretrain --dump-batch writes it: tools/golden/README.md has the layout
    weights: Path
    feature_size: int  # C
    projector: int  # D
    patch_merging: str
    volumes: int  # V
    all_crops: int  # N = V (S + K)
    roi: int  # R


def read_workload(recipe: str, folder: Path) -> Workload:
    """Of files that make_workload or make_trained_workload made."""
    (batch,) = folder.glob("batch-*.safetensors")
    with safe_open(batch, "np") as file:  # does not wait for PyTorch to load
        about = file.metadata()
        volumes, crops, bases = file.get_slice("labels").get_shape()
    return Workload(
        recipe=recipe,
        batch=batch,
        weights=folder / "weights.safetensors",
        feature_size=int(about["feature_size"]),
        projector=int(about["projector"]),
        patch_merging=about["patch_merging"],
        volumes=volumes,
        all_crops=volumes * (crops + bases),
        roi=int(about["roi"]),
    )


def run_voco(voco: Path, *words: object) -> str:
    done = subprocess.run([str(voco), *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"voco {words[0]} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


def make_workload(voco: Path, recipe: str, volumes: int, folder: Path) -> Workload:
    """A batch of phantoms made by voco, and weights as PyTorch initialises them. What is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    phantoms = folder / "phantoms"
    if not (folder / "batch-00000000.safetensors").exists():
        run_voco(voco, "phantom", phantoms, "--count", volumes + 1, "--size", "160x128x144", "--spacing", 2.8)
        run_voco(voco, "pretrain", phantoms, "--out", folder, "--recipe", recipe, "--batch", volumes, "--dump-batch", 0)
    workload = read_workload(recipe, folder)
    if not workload.weights.exists():
        _write_weights(workload)
    return workload


def make_trained_workload(voco: Path, recipe: str, volumes: int, steps: int, folder: Path, threads: int) -> Workload:
    """Of a run of so many steps on phantoms, in float32: its weights at the end, and the batch that would come next. What is
    there already stays."""
    weights = folder / "weights.safetensors"
    if not weights.exists():
        phantoms = folder / "phantoms"
        run_voco(voco, "phantom", phantoms, "--count", 16, "--size", "128x104x116", "--spacing", 3.5)
        run_voco(
            voco, "pretrain", phantoms, "--out", folder, "--recipe", recipe, "--batch", volumes, "--steps", steps,
            "--threads", threads, "--resume",
        )  # fmt: skip
        run_voco(voco, "pretrain", "--out", folder, "--resume", "--dump-batch", steps)
        run_voco(voco, "convert", folder, weights, "--weights-only")
    return read_workload(recipe, folder)


def _write_weights(workload: Workload) -> None:
    import torch
    from safetensors.torch import save_file

    from reference import VoCo

    torch.manual_seed(SEED)
    state = VoCo(workload.feature_size, workload.projector, workload.patch_merging).state_dict()
    about = {"format": "voco-golden-1", "patch_merging": workload.patch_merging}
    about |= {key: str(getattr(workload, key)) for key in ("feature_size", "roi", "projector")}
    save_file({k: v for k, v in state.items() if not k.endswith("relative_position_index")}, workload.weights, about)


def replayed_losses(voco: Path, workload: Workload, steps: int, threads: int) -> list[float]:
    """The losses of voco's steps on the workload, float32, every step after its own updates."""
    out = workload.weights.with_name("replayed.safetensors")
    report = run_voco(
        voco, "replay", workload.batch, "--checkpoint", workload.weights, "--out", out, "--steps", steps,
        "--lr", LEARNING_RATE, "--weight-decay", WEIGHT_DECAY, "--threads", threads, "--json",
    )  # fmt: skip
    out.unlink()
    return [step["loss"] for step in json.loads(report)["steps"]]
