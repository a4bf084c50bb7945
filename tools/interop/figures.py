"""How a check says what it found: one line with the figure and its bound. An AssertionError ends it."""
import os
import subprocess
import sys


def at_most(what, value, bound):
    print(f"{what}: {value:.2g} (at most {bound:g})", flush=True)
    assert value <= bound, f"{what}: {value} is more than {bound}"


def exactly(what, found, expected):
    print(f"{what}: {found} (exactly {expected})", flush=True)
    assert found == expected, f"{what}: {found} is not {expected}"


def run(*command):
    """What a command prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr.strip()}"
    return done.stdout


def refusal(*command):
    """The one line with which a command refuses."""
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and len(lines) == 1, f"{' '.join(map(str, command))}: {done.returncode}, {done.stderr}"
    return lines[0]


# A process of its own, small, because a child's peak begins with the size of the parent that it was forked from.
MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def peak_memory(*command):
    """Bytes of resident memory that a command took at most."""
    return int(run(sys.executable, "-c", MEASURE, *map(os.fspath, command)))
