"""Results as a table in Markdown, with the machine and the versions they were measured with."""

from __future__ import annotations

import datetime
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Check:
    what: str
    measured: str
    need: str
    good: bool

    def row(self) -> list[str]:
        return [self.what, self.measured, self.need, "yes" if self.good else "**no**"]


@dataclass
class Section:
    title: str
    text: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _first_match(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"


# Of AMD's processors, which virtual machines may all call AMD EPYC: family, models, generation.
GENERATIONS = (
    (23, range(0x30, 0x100), "Zen 2"),
    (25, range(0x00, 0x10), "Zen 3"),
    (25, range(0x10, 0x20), "Zen 4"),
    (25, range(0xA0, 0xB0), "Zen 4"),
    (26, range(0x00, 0x50), "Zen 5"),
)


@dataclass(frozen=True)
class Processor:
    name: str
    family: int
    model: int

    def _says_enough(self) -> bool:
        """A number in the name is that of a product; without one it is a word for many generations."""
        return re.search(r"\d", self.name) is not None or self.name == "unknown"

    def _generation(self) -> str:
        every = GENERATIONS if "AMD" in self.name else ()
        return next((name for family, models, name in every if family == self.family and self.model in models), "")

    def __str__(self) -> str:
        if self._says_enough():
            return self.name
        numbers, generation = f"family {self.family}, model {self.model}", self._generation()
        return f"{self.name} ({generation}: {numbers})" if generation else f"{self.name} ({numbers})"

    def slug(self) -> str:
        """As part of a file's name: amd-epyc-zen-4."""
        words = re.sub(r"\((r|tm)\)|cpu|@.*", "", self.name.lower())
        if not self._says_enough():
            words += " " + (self._generation() or f"family {self.family} model {self.model}").lower()
        return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


def processor(cpuinfo: str = "/proc/cpuinfo") -> Processor:
    def number(key: str) -> int:
        found = _first_match(cpuinfo, key)
        return int(found) if found.isdecimal() else 0

    return Processor(_first_match(cpuinfo, "model name"), number("cpu family"), number("model"))


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def machine(voco: Path, load_before: tuple[float, float, float], packages: Sequence[str]) -> list[list[str]]:
    """Rows of a table. packages: of Python, whose versions matter."""
    memory = int(_first_match("/proc/meminfo", "MemTotal").split()[0]) / 2**20
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    commit = _output("git", "describe", "--always", "--dirty")
    return [
        ["date", datetime.date.today().isoformat()],
        ["processor", f"{processor()}, {os.cpu_count()} threads"],
        ["memory", f"{memory:.0f} GiB"],
        ["system", f"{_os_name()}, Linux {platform.release()}"],
        ["load average before the run", " ".join(f"{value:.1f}" for value in load_before)],
        ["voco", f"{_output(str(voco), '--version')}, commit {commit}"],
        ["Python", f"{platform.python_version()}: {versions}"],
    ]


def _os_name() -> str:
    return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")


def markdown(title: str, sections: Sequence[Section], machine_rows: Sequence[Sequence[str]], command: str) -> str:
    checks = [check.row() for section in sections for check in section.checks]
    parts = [
        f"# {title}",
        f"Written by `{command}`; both sides ran on the same machine in the same run.",
        table(["", ""], machine_rows),
        "## Summary",
        table(["what", "measured", "wanted", "met"], checks),
    ]
    for section in sections:
        parts += [f"## {section.title}", section.text, table(section.columns, section.rows)]
    return "\n\n".join(parts) + "\n"


def write(text: str, out: Path | None) -> None:
    """out: None where it goes to no file."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
        print(f"written to {shlex.quote(str(out))}", file=sys.stderr)


def exit_status(sections: Sequence[Section]) -> int:
    """1 when something wanted was not met."""
    return 0 if all(check.good for section in sections for check in section.checks) else 1
