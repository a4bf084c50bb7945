"""What the pairs say, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from large_batch import BUDGET, BUDGET_BYTES, MOST_SLOWDOWN, VOLUMES, LargeBatch
from pair import MOST_DIFFERENCE, TRIAL_CROPS, Pair, Steps, Trial
from precision import CHOICES, Distance, Precision
from report import Check, Section

MOST_LOSS_DIFFERENCE = {"float32": 1e-4, "bf16": 2e-2}
MOST_BF16_CHANGE = 2e-2  # of loss and embeddings
MOST_GRADIENT_DIFFERENCE = 2e-2  # of the programs in float32, as tests/golden have it: kinks of activations enlarge rounding


def _seconds(steps: Steps | None) -> str:
    if steps is None:
        return "not done"
    low, high = min(steps.seconds), max(steps.seconds)
    return f"{steps.median:.2f}" + (f" ({low:.2f} to {high:.2f})" if len(steps.seconds) > 1 else "")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"


def steps_section(pairs: Sequence[Pair]) -> Section:
    section = Section(
        "A training step",
        "Seconds per step, median of all rounds (fastest to slowest); CPU seconds are those of all threads in the step that took"
        " the fewest, and say more than the others where other programs are at work. Peak memory is the whole process."
        " Each measurement is a process of its own, the two programs take turns, and each warms up first."
        " voco's step includes its data and its own drop, PyTorch's has its batch in memory and no drop.",
        ["recipe, precision", "volumes, crops", "PyTorch with", "load average", "voco, s", "PyTorch, s", "PyTorch / voco",
         "voco, CPU s", "PyTorch, CPU s", "PyTorch / voco", "voco, GiB", "PyTorch, GiB"],
    )  # fmt: skip
    for p in pairs:
        wall, cpu = p.pytorch.median / p.voco.median, p.pytorch.cpu_seconds / p.voco.cpu_seconds
        row = [p.name, f"{p.volumes}, {p.crops}", str(p.choices), f"{p.load:.1f}"]
        row += [_seconds(p.voco), _seconds(p.pytorch), f"**{wall:.1f}**"]
        row += [f"{p.voco.cpu_seconds:.1f}", f"{p.pytorch.cpu_seconds:.1f}", f"**{cpu:.1f}**"]
        section.rows.append(row + [_gib(p.voco.peak_memory), _gib(p.pytorch.peak_memory)])
    return section


def arithmetic_section(pairs: Sequence[Pair]) -> Section:
    section = Section(
        "Arithmetic",
        "GFLOP that the method needs in a step, forward and backward once, by `voco bench`'s count for both, over the median of"
        " the seconds; and their share of what the machine does at its best in that precision, measured in the same run.",
        ["recipe, precision", "GFLOP a step", "peak GFLOP/s", "voco GFLOP/s", "of peak", "PyTorch GFLOP/s", "of peak"],
    )
    for p in pairs:
        gflop, peak = p.bench["gflop_per_step"], p.bench["peak_gflops"]
        row = [p.name, f"{gflop:.0f}", f"{peak:.0f}"]
        for steps in (p.voco, p.pytorch):
            rate = gflop / steps.median
            row += [f"{rate:.0f}", f"{100 * rate / peak:.0f} %"]
        section.rows.append(row)
    return section


def _trial_row(pair: Pair, trial: Trial) -> list[str]:
    choices = str(trial.choices) + (" (taken)" if trial.choices == pair.choices else "")
    if trial.failure:
        return [pair.name, choices, trial.failure, "", ""]
    return [pair.name, choices, f"{trial.wall:.2f}", f"{trial.cpu:.2f}", f"{trial.difference:.0e}"]


def trials_section(pairs: Sequence[Pair]) -> Section:
    clocks = " or ".join(sorted({pair.clock for pair in pairs}))
    section = Section(
        "What PyTorch was given",
        f"Encoder forward and backward, {TRIAL_CROPS} crops (that is \"all\" here), seconds a crop, fastest round, and the"
        " difference of the embeddings (relative L2) to the plain model in float32. The best is taken for the steps above: by"
        f" {clocks} seconds (CPU where other programs are at work as the run begins). Everywhere `MALLOC_MMAP_THRESHOLD_` and"
        " `MALLOC_TRIM_THRESHOLD_` keep glibc from giving memory back, subnormal numbers are zero (torch.set_flush_denormal), and AdamW is"
        " fused. PyTorch's"
        " scaled_dot_product_attention has a fused kernel on CPUs only where its mask needs no gradient, but the position bias,"
        " which is part of the mask, is trained.",
        ["recipe, precision", "choices", "s", "CPU s", "difference"],
    )  # fmt: skip
    section.rows = [_trial_row(pair, trial) for pair in pairs for trial in pair.trials]
    return section


def published_section(pairs: Sequence[Pair]) -> Section:
    section = Section(
        "PyTorch as published",
        "A step with the choices of the published code (Swin blocks checkpointed, all crops at once), glibc's defaults and"
        " subnormal numbers.",
        ["recipe, precision", "PyTorch, s", "PyTorch, CPU s", "CPU s, PyTorch / voco", "PyTorch, GiB"],
    )
    for pair in pairs:
        row = [pair.name, _seconds(pair.published)]
        if pair.published is not None:
            cpu = pair.published.cpu_seconds
            row += [f"{cpu:.1f}", f"{cpu / pair.voco.cpu_seconds:.1f}", _gib(pair.published.peak_memory)]
        section.rows.append(row + [""] * (len(section.columns) - len(row)))
    return section


def losses_section(pairs: Sequence[Pair]) -> Section:
    section = Section(
        "Same loss",
        "Both programs on the same batch (`voco pretrain --dump-batch`) from the same weights: `voco replay` in float32, PyTorch"
        " in the steps that were timed. The second step comes after each program's own update.",
        ["recipe, precision of PyTorch", "step", "voco", "PyTorch", "difference"],
    )
    for pair in pairs:
        for step, (ours, theirs) in enumerate(zip(pair.voco_losses, pair.pytorch_losses)):
            section.rows.append([pair.name, str(step), f"{ours:.6f}", f"{theirs:.6f}", f"{abs(ours - theirs):.1e}"])
        difference, bound = abs(pair.voco_losses[0] - pair.pytorch_losses[0]), MOST_LOSS_DIFFERENCE[pair.precision]
        what = f"{pair.name}: PyTorch's loss and voco's differ by"
        section.checks.append(Check(what, f"{difference:.1e}", f"{bound:.0e}", difference <= bound))
    return section


def large_batch_section(batches: Sequence[LargeBatch]) -> Section:
    section = Section(
        "A large batch in little memory",
        f"`base`, {VOLUMES} volumes: voco within a budget and without one, median of two steps after one to warm up, and the first"
        " step of PyTorch with the choices that take the least memory.",
        ["precision", "crops", "program", "seconds a step", "seconds a crop", "peak memory, GiB"],
    )
    for batch in batches:
        for m in (batch.limited, batch.unlimited, batch.pytorch):
            figures = [f"{m.seconds:.1f}", f"{m.seconds / batch.crops:.2f}", f"{m.peak_memory / 2**30:.2f}"]
            section.rows.append([batch.precision, str(batch.crops), m.program, *(["", "", m.failure] if m.failure else figures)])
        what, peak = f"base, {batch.crops} crops, {batch.precision}", batch.limited.peak_memory
        section.checks += [
            Check(f"{what}: memory with --memory {BUDGET}", f"{peak / 2**30:.2f} GiB", BUDGET, peak < BUDGET_BYTES),
            Check(f"{what}: times the seconds of no limit", f"{batch.slowdown:.2f}", str(MOST_SLOWDOWN), batch.slowdown <= MOST_SLOWDOWN),
        ]
    return section


def precision_section(every: Sequence[Precision]) -> Section:
    section = Section(
        "What bf16 changes",
        "A step's loss, embeddings, projections and gradient in both programs, each in float32 and in bf16, on the same batch from"
        " the same weights: those that PyTorch initialises, or those of `voco pretrain` in float32 after so many steps. How far a"
        " program in bf16 is from itself in float32: relative L2 of the loss with its three terms, of embeddings, of the student's"
        " projections and of the gradient of all parameters as one vector, whose cosine follows. Before training, embeddings"
        " have most in common; the projectors' BatchNorm takes that off and enlarges the rest, with what it was rounded by."
        f" PyTorch runs under autocast ({CHOICES}), voco as `voco replay`. encoder10: the gradient of"
        " the weights of its two 3^3 convolutions, which is left out of the whole one, for oneDNN in PyTorch 2.15 leaves parts of"
        " it unwritten in bf16, where there are 2^3 voxels.",
        ["weights", "crops", "", "loss", "embeddings", "projections", "gradient", "cosine", "encoder10"],
    )  # fmt: skip
    for p in every:
        rows = {"voco in bf16": p.voco, "PyTorch in bf16": p.pytorch, "both in float32, PyTorch from voco": p.programs}
        for what, distance in rows.items():
            figures = [p.failure, *[""] * 5] if distance is None else _figures(distance)
            section.rows.append([p.name, str(p.crops), what, *figures])
        section.checks += _precision_checks(p)
    return section


def _figures(d: Distance) -> list[str]:
    lengths = [f"{value:.1e}" for value in (d.loss, d.embeddings, d.projections, d.gradient)]
    return [*lengths, f"{d.cosine:.4f}", f"{d.encoder10:.1e}"]


def _precision_checks(p: Precision) -> list[Check]:
    def at_most(what: str, measured: float, bound: float, need: str) -> Check:
        return Check(f"{p.name}: {what}", f"{measured:.1e}", need, measured <= bound)

    bound = f"{MOST_BF16_CHANGE:.0e}"
    checks = [
        at_most("voco's loss changes in bf16 by", p.voco.loss, MOST_BF16_CHANGE, bound),
        at_most("voco's embeddings change in bf16 by", p.voco.embeddings, MOST_BF16_CHANGE, bound),
    ]
    if p.pytorch and p.programs:
        theirs, most = p.pytorch.gradient, MOST_GRADIENT_DIFFERENCE
        checks.append(at_most("voco's gradient changes in bf16 by", p.voco.gradient, theirs, f"PyTorch's {theirs:.1e}"))
        checks.append(at_most("gradients in float32 differ by", p.programs.gradient, most, f"{most:.0e}"))
    return checks
