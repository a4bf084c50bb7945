"""Runs the checks of this folder, one after another, and says in the end what held. `make interop` calls it.

    python tools/interop/run.py BUILD EARLIER_MONAI [--quick]

EARLIER_MONAI is a folder with MONAI of the earlier generation (up to 1.4); the environment's own is of the later. A check prints a
line per figure, with its bound. --quick leaves out `large` and `huge` and takes three forms of `base` instead of nine. Exit status
1 where a check failed.
"""
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def checks(build, quick):
    """Name, script, arguments, with the earlier MONAI."""
    voco = os.path.join(build, "voco")
    exchange = os.path.join(build, "interop", "generations")
    names = ["--quick"] if quick else []
    yield "PyTorch's files, there and back", "check_pt.py", [os.path.join(build, "tests", "copy_tensors")], False
    yield "TensorBoard's reader", "check_events.py", [os.path.join(build, "tests", "write_events")], False
    yield "conversion, all orders of patch merging", "check_convert.py", [voco], False
    yield "embeddings and feature maps", "check_encode.py", [voco], False
    yield "names and prefixes, later MONAI", "check_names.py", [voco, *names], False
    yield "names and prefixes, earlier MONAI", "check_names.py", [voco, *names], True
    for earlier in (False, True):
        yield "encoders for the other generation, saved", "check_generations.py", [voco, "save", exchange], earlier
    for earlier in (False, True):
        yield "encoders of both generations, loaded", "check_generations.py", [voco, "load", exchange], earlier
    yield "cache, embeddings and training in Python", "check_package.py", [voco], False
    yield "cache of every precision by zarr, and damage to it", os.path.join("..", "..", "tests", "cli", "test_cache_zarr.sh"), [voco], False
    if not quick:
        yield "large", "check_large.py", [voco, "large"], False
        yield "huge", "check_large.py", [voco, "huge"], False


def run(number, name, script, arguments, environment):
    """Returns the lines that it printed, None where it failed."""
    print(f"== {number}. {name}", flush=True)
    lines = 0
    interpreter = "bash" if script.endswith(".sh") else sys.executable
    with subprocess.Popen([interpreter, os.path.join(HERE, script), *arguments], env=environment, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        for line in process.stdout:
            print("  " + line.rstrip(), flush=True)
            lines += 1
        complaint = process.stderr.read().strip()
    if process.returncode != 0:
        print(f"  FAILED, status {process.returncode}: {complaint.splitlines()[-1] if complaint else ''}", flush=True)
        print(complaint, file=sys.stderr)
        return None
    return lines


def main():
    build, earlier_monai, quick = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), "--quick" in sys.argv
    work = os.path.join(build, "interop")
    os.makedirs(work, exist_ok=True)
    environment = {**os.environ, "TMPDIR": work, "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1", "VOCO_PYTHON": sys.executable}
    begun, held, lines, failed = time.time(), 0, 0, []
    for number, (name, script, arguments, earlier) in enumerate(checks(build, quick), 1):
        found = run(number, name, script, arguments, {**environment, "PYTHONPATH": earlier_monai} if earlier else environment)
        if found is None:
            failed.append(f"{number}. {name}")
        else:
            held, lines = held + 1, lines + found
    for name in failed:
        print(f"failed: {name}")
    print(f"interop: {held} of {held + len(failed)} checks held, {lines} figures, {(time.time() - begun) / 60:.0f} minutes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
