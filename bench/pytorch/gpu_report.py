"""The comparison on a GPU in Markdown, from what scripts/bench-gpu left in its folder: pytorch.json of gpu.py, and of voco
bench-PRECISION.json and replay-PRECISION.json, as far as they are there."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path

from gpu import fastest, same_result

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "bench"))
from report import Check, Section, exit_status, machine, markdown, write  # noqa: E402

PRECISIONS = ("bf16", "tf32", "float32")
MOST_LOSS_DIFFERENCE = {"float32": 1e-4, "tf32": 5e-3, "bf16": 2e-2}


def _json(file: Path) -> dict | None:
    """None where a program failed before it wrote anything."""
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f}" if size else ""


class Comparison:
    def __init__(self, folder: Path) -> None:
        self.pytorch = _json(folder / "pytorch.json") or {"settings": [], "machine": {}, "gflop_per_step": 0}
        self.bench = {precision: _json(folder / f"bench-{precision}.json") for precision in PRECISIONS}
        self.replay = {precision: _json(folder / f"replay-{precision}.json") for precision in PRECISIONS}
        self.peak = self.pytorch["machine"].get("bf16_flops", 0)
        self.gflop = (self.bench["bf16"] or self.bench["float32"] or self.pytorch)["gflop_per_step"]

    def row(self, name: str) -> dict | None:
        return next((row for row in self.pytorch["settings"] if row["name"] == name and "failure" not in row), None)

    def _rate(self, seconds: float) -> list[str]:
        """TFLOP/s, and their share of the peak in bf16."""
        rate = self.gflop * 1e9 / seconds
        return [f"{rate / 1e12:.1f}", f"{100 * rate / self.peak:.1f} %" if self.peak else ""]

    def steps(self) -> Section:
        section = Section(
            "A training step",
            f"{self.pytorch.get('recipe')}, {self.pytorch.get('volumes')} volumes, {self.pytorch.get('crops')} crops:"
            f" {self.gflop:.0f} GFLOP forward and backward once, by `voco bench`'s count for both sides; median (fastest to"
            " slowest). voco's step includes its data and its own drop, PyTorch's has its batch on the GPU and no drop.",
            ["", "seconds", "TFLOP/s", "of the peak in bf16", "GiB", "times as long as voco"],
        )
        for precision, bench in self.bench.items():
            if bench:
                took = f"{bench['seconds_per_step']:.4f} ({bench['fastest_step']:.4f} to {bench['slowest_step']:.4f})"
                memory = _gib(bench["peak_memory_bytes"])
                section.rows.append([f"voco, {precision}", took, *self._rate(bench["seconds_per_step"]), memory, ""])
        best = fastest(self.pytorch)
        theirs = {"PyTorch at its best, bf16": best, "PyTorch as published, bf16": self.row("as published")}
        theirs |= {"PyTorch as published, fp16": self.row("as published, fp16"), "PyTorch, TF32": self.row("TF32")}
        for title, row in theirs.items():
            if row is None:
                section.rows.append([title, "not measured", "", "", "", ""])
                continue
            took = f"{row['median_seconds']:.4f} ({min(row['seconds']):.4f} to {max(row['seconds']):.4f})"
            ours = self.bench["tf32" if row["precision"] == "tf32" else "bf16"]
            times = f"**{row['median_seconds'] / ours['seconds_per_step']:.2f}**" if ours else ""
            section.rows.append([title, took, *self._rate(row["median_seconds"]), _gib(row["peak_memory_bytes"]), times])
        return section

    def settings(self) -> Section:
        section = Section(
            "What PyTorch was given",
            "Medians in seconds; the first step, with building, compilation and cuDNN's search; the loss of the first step; how far"
            " the embeddings are from those in float32 (relative L2). A gradient of the position bias is demanded. \"Rewritten\" is"
            " bench/pytorch/rewritten.py: the same function, without MONAI's copies and with norms that a compiler can fuse.",
            ["setting", "choices", "step, s", "TFLOP/s", "of peak", "GiB", "first step, s", "loss", "difference"],
        )
        best = fastest(self.pytorch)
        for row in self.pytorch["settings"]:
            choices = f"{row['choices']}; {row['precision']}, {row['options']}"
            if "failure" in row:
                section.rows.append([row["name"], choices, row["failure"].replace("|", "/"), "", "", "", "", "", ""])
                continue
            name = row["name"] + " (the best)" * (row is best) + " (not the same result)" * (not same_result(row, self.pytorch))
            difference = row["embedding_difference"]
            section.rows.append([
                name, choices, f"{row['median_seconds']:.4f}", *self._rate(row["median_seconds"]), _gib(row["peak_memory_bytes"]),
                f"{row['first_step_seconds']:.1f}", f"{row['losses'][0]:.6f}", "" if difference is None else f"{difference:.0e}",
            ])  # fmt: skip
        return section

    def losses(self) -> Section:
        section = Section(
            "Same loss",
            "Both programs on the same batch (`voco pretrain --dump-batch`) from the same weights, `voco replay` on the GPU, too."
            " The second step comes after each program's own update.",
            ["precision", "step", "voco", "PyTorch", "difference", "gradient norm, voco", "PyTorch"],
        )
        pytorch = {"float32": self.row("float32"), "tf32": self.row("TF32"), "bf16": fastest(self.pytorch) or self.row("as published")}
        for precision in PRECISIONS:
            ours, theirs = self.replay[precision], pytorch[precision]
            if not ours or not theirs:
                continue
            for i, (step, loss) in enumerate(zip(ours["steps"], theirs["losses"])):
                if step["loss"] is None:
                    section.rows.append([precision, str(i), "not finite", f"{loss:.6f}", "", "", ""])
                    continue
                norms = [f"{step['gradient_norm']:.4f}", f"{theirs.get('gradient_norm', 0):.4f}"] if i == 0 else ["", ""]
                difference = f"{abs(step['loss'] - loss):.1e}"
                section.rows.append([precision, str(i), f"{step['loss']:.6f}", f"{loss:.6f}", difference, *norms])
            first, bound = ours["steps"][0]["loss"], MOST_LOSS_DIFFERENCE[precision]
            difference = abs((float("nan") if first is None else first) - theirs["losses"][0])
            what = f"{precision}: PyTorch's loss and voco's differ by"
            section.checks.append(Check(what, f"{difference:.1e}", f"{bound:.0e}", difference <= bound))
        return section

    def machine_rows(self, voco: Path, commit: str | None) -> list[list[str]]:
        rows = machine(voco, os.getloadavg(), ("torch", "monai", "numpy", "einops"))
        gpu = self.pytorch["machine"]
        if commit:
            rows = [[what, re.sub("commit .*", f"commit {commit}", value)] if what == "voco" else [what, value] for what, value in rows]
        n = gpu.get("matmul_size")
        return rows + [
            ["GPU", f"{gpu.get('device')}, {_gib(gpu.get('memory_bytes', 0))} GiB, CUDA {gpu.get('cuda')}, cuDNN {gpu.get('cudnn')}"],
            ["its best in bf16", f"{self.peak / 1e12:.0f} TFLOP/s (torch.matmul of {n}x{n} random matrices, median)"],
            ["its best in copying", f"{gpu.get('copy_bytes_per_second', 0) / 1e12:.2f} TB/s read and written"],
        ]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--voco", type=Path, required=True, help="the program")
    parser.add_argument("--commit", help="of voco, where there is no git repository")
    parser.add_argument("--out", type=Path, help="[bench/results/gpu-NAME.md, of the GPU's name]")
    arguments = parser.parse_args()
    comparison = Comparison(arguments.folder)
    sections = [comparison.steps(), comparison.losses(), comparison.settings()]
    rows = comparison.machine_rows(arguments.voco, arguments.commit)
    text = markdown("A training step on a GPU beside PyTorch", sections, rows, "scripts/bench-gpu")
    name = re.sub(r"[^a-z0-9]+", "-", comparison.pytorch["machine"].get("device", "unknown").lower()).strip("-")
    write(text, arguments.out or PROJECT / "bench" / "results" / f"gpu-{name}.md")
    return exit_status(sections)


if __name__ == "__main__":
    sys.exit(main())
