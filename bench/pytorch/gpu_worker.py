"""A process that measures PyTorch on one device: reads requests from standard input, a line of JSON each, and answers with a
line of JSON on standard output. gpu.py starts it, and another where this one has to be ended."""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
import traceback
import warnings
from pathlib import Path
from statistics import median

import torch
import torch._dynamo
import torch._functorch.config
from building import as_chosen, autocast, build_model
from gpu_plan import Setting
from reference import model_input, optimizer_of, voco_loss
from safetensors.torch import load_file, save_file
from workload import LEARNING_RATE, WEIGHT_DECAY, Workload, read_workload

WARM_UP = 2  # steps; the first compiles and searches


class Clock:
    """Marks points of the device's time; the seconds between them are read at the end, so that nothing waits in between."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        self.marks: list = []

    def mark(self) -> None:
        if self.cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        if self.cuda:
            torch.cuda.synchronize()
            return [a.elapsed_time(b) / 1e3 for a, b in zip(self.marks, self.marks[1:])]
        return [b - a for a, b in zip(self.marks, self.marks[1:])]


class Worker:
    def __init__(self, workload: Workload, device: str) -> None:
        self.workload, self.device = workload, device
        torch.set_flush_denormal(True)  # for trials on CPUs (stopwatch.prepare_process)
        batch = load_file(workload.batch)
        self.x = model_input(batch).to(device)
        self.labels = batch["labels"].to(device)
        self.plain_embeddings = workload.batch.with_name("float32-embeddings.safetensors")

    # ---- the machine ----

    def machine(self, quick: bool) -> dict:
        """Its best in bf16 products and in copying, medians."""
        n, size, rounds = (512, 1 << 22, 3) if quick else (8192, 1 << 32, 20)
        a, b = (torch.randn(n, n, device=self.device).to(torch.bfloat16) for _ in range(2))
        c = torch.empty_like(a)
        product = self._median(lambda: torch.matmul(a, b, out=c), rounds)
        source = torch.randint(256, (size,), dtype=torch.uint8, device=self.device)
        copy = torch.empty_like(source)
        copied = self._median(lambda: copy.copy_(source), rounds)
        cuda = self.device == "cuda"
        return {
            "device": torch.cuda.get_device_name() if cuda else "CPU",
            "memory_bytes": torch.cuda.get_device_properties(0).total_memory if cuda else 0,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version() if cuda else None,
            "matmul_size": n,
            "bf16_flops": 2 * n**3 / product,
            "copy_bytes_per_second": 2 * size / copied,
        }

    def _median(self, operation, rounds: int) -> float:
        for _ in range(3):
            operation()
        clock = Clock(self.device)
        for _ in range(rounds):
            clock.mark()
            operation()
        clock.mark()
        return median(clock.seconds())

    # ---- steps ----

    def measure(self, setting: Setting) -> dict:
        began = time.perf_counter()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = setting.tf32
        torch.backends.cudnn.benchmark = setting.search
        # cuDNN's attention has no gradient of the additive mask.
        torch.backends.cuda.enable_cudnn_sdp(False)
        torch._functorch.config.force_non_lazy_backward_lowering = True  # as in gpu_precompile.py, whose cache is read
        cuda = self.device == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        model = build_model(self.workload, setting.choices, self.device)
        optimizer = optimizer_of(model, LEARNING_RATE, WEIGHT_DECAY, **({"fused": True} if setting.fused_adamw else {}))
        scaler = torch.amp.GradScaler(self.device, enabled=setting.precision == "fp16")
        x = as_chosen(self.x, setting.choices)

        def step():
            """Returns loss and embeddings; gradients stay."""
            optimizer.zero_grad()
            with autocast(setting.precision, self.device):
                e, student, teacher = model(x)
            with torch.device(self.device):  # where the loss makes its indices
                loss = voco_loss(student.float(), teacher.float(), self.labels)[0]
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            if setting.read_loss:
                loss.item()
            return loss.detach(), e.detach()

        losses = []
        result: dict = {"first_step_seconds": 0.0}
        for i in range(WARM_UP):
            loss, e = step()
            losses.append(loss.item())
            if i == 0:
                result["first_step_seconds"] = time.perf_counter() - began
                result |= self._gradients(model, 1.0 if setting.precision != "fp16" else None)
                result["embedding_difference"] = self._difference(e.float().cpu(), setting)
            del loss, e
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        clock = Clock(self.device)
        clock.mark()
        for _ in range(setting.steps):
            step()
            clock.mark()
        seconds = clock.seconds()
        return result | {
            "losses": losses,
            "seconds": seconds,
            "median_seconds": median(seconds),
            "peak_memory_bytes": torch.cuda.max_memory_allocated() if cuda else 0,
            "reserved_bytes": torch.cuda.max_memory_reserved() if cuda else 0,
            "whole_seconds": time.perf_counter() - began,
        }

    @staticmethod
    def _gradients(model: torch.nn.Module, scale: float | None) -> dict:
        """Norms: of all, and of attention's position bias, whose gradient not every fused attention has."""
        if scale is None:
            return {}
        grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        bias = [g for name, g in grads.items() if name.endswith("relative_position_bias_table")]
        return {
            "gradient_norm": torch.nn.utils.get_total_norm(list(grads.values())).item(),
            "bias_gradient_norm": torch.nn.utils.get_total_norm(bias).item(),
        }

    def _difference(self, e: torch.Tensor, setting: Setting) -> float | None:
        """Of the embeddings from those in float32, relative L2."""
        if setting.precision == "float32":
            save_file({"e": e}, self.plain_embeddings)
        if not self.plain_embeddings.exists():
            return None
        wanted = load_file(self.plain_embeddings)["e"]
        return ((e - wanted).norm() / wanted.norm()).item()

    def forget(self) -> None:
        """Gives the memory of the last setting back."""
        torch._dynamo.reset()
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()


def _words(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)}"[:400]


def answer(worker: Worker, request: dict) -> dict:
    try:
        if request["do"] == "machine":
            return worker.machine(request["quick"])
        return worker.measure(Setting.from_dict(request["setting"]))
    except torch.OutOfMemoryError as error:
        return {"failure": _words(error), "out_of_memory": True}
    except Exception as error:
        traceback.print_exc()
        # After an error on the device nothing in this process can be relied on.
        return {"failure": _words(error), "broken": "CUDA error" in str(error) or "cuDNN" in str(error)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("folder", type=Path, help="of a workload")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # MONAI announces coming changes
    # Answers have the pipe for themselves: what others print goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(value: dict) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    worker = Worker(read_workload(arguments.recipe, arguments.folder), arguments.device)
    say({"ready": True})
    for line in sys.stdin:
        request = json.loads(line)
        said = answer(worker, request)
        worker.forget()
        say(said)
        if said.get("broken"):
            break


if __name__ == "__main__":
    main()
