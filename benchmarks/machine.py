"""What the benchmarks share: the machine's name, and the peak memory of a process."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

# A process takes over the peak of the one that starts it, so a small one stands between this one and the command.
WATCH = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def peak_bytes(arguments: Sequence[str]) -> int:
    """The largest resident memory of a Python process with these arguments."""
    command = [sys.executable, "-c", WATCH, sys.executable, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout) * RSS_UNIT


def growth_bytes(prepare: str, act: str) -> int:
    """By how much the Python code ``act`` grows a process at its peak, after ``prepare`` ran. On Linux only.

    The peak is set back in between, since imports may for a moment take more than what follows them.
    """
    resident = (
        "int(next(l for l in Path('/proc/self/status').read_text().splitlines() if l.startswith({!r})).split()[1])"
    )
    script = (
        f"from pathlib import Path; {prepare}; Path('/proc/self/clear_refs').write_text('5'); "
        f"before = {resident.format('VmRSS')}; {act}; print({resident.format('VmHWM')} - before)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, capture_output=True, text=True)
    return int(done.stdout) * 1024


def machine() -> dict[str, Any]:
    """The processor, its vector instructions as PyTorch sees them, its cores, and the threads that PyTorch uses."""
    vectors = torch.backends.cpu.get_cpu_capability()
    return {"cpu": cpu_model(), "vectors": vectors, "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def described(hardware: Mapping[str, Any], versions: Mapping[str, str], packages: Sequence[str] = ()) -> str:
    """What results were made with, in a line.

    Args:
        hardware: from `machine`.
        versions: by package.
        packages: to name beside Python, torch and cs-lip.
    """
    return f"Machine: {named(hardware)}; {_versions(versions, packages)}."


def described_all(rows: Iterable[Mapping[str, Any]], versions: Mapping[str, str]) -> str:
    """The same of rows that each say their machine, since a run may go on on another one."""
    names = list(dict.fromkeys(named(row["machine"]) for row in rows))
    return f"{'Machine' if len(names) < 2 else 'Machines'}: {' and '.join(names)}; {_versions(versions)}."


def named(hardware: Mapping[str, Any]) -> str:
    vectors = f" ({hardware['vectors']})" if "vectors" in hardware else ""
    threads = f"{hardware['threads']} thread{'s' if hardware['threads'] > 1 else ''}"
    return f"{hardware['cpu']}{vectors}, {hardware['cores']} cores, {threads}"


def _versions(versions: Mapping[str, str], packages: Sequence[str] = ()) -> str:
    names = {"python": "Python", "pylops": "PyLops"}
    return ", ".join(f"{names.get(name, name)} {versions[name]}" for name in ("python", "torch", *packages, "cs-lip"))


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    models = [line.split(":", maxsplit=1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
