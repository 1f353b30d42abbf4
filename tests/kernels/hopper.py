"""Compiles, with no GPU, the very kernels that a call would launch on a Hopper GPU."""

import json
import os
import subprocess
import sys
from typing import Any

# Triton asks a driver what to compile for; a launch then compiles, and stops there.
BEFORE = """
import json, re, subprocess, tempfile
from pathlib import Path
import torch, triton
from types import SimpleNamespace
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

triton.runtime.driver.set_active(SimpleNamespace(
    get_current_device=lambda: 0, get_current_stream=lambda device: 0,
    get_current_target=lambda: GPUTarget("cuda", 90, 32),
))
kernels, run = [], JITFunction.run
def compile_only(self, *args, grid, warmup, **options):
    kernels.append(run(self, *args, grid=grid, warmup=True, **options))
JITFunction.run = compile_only
"""
AFTER = """
def figures(kernel):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        cuobjdump = Path(triton.__file__).with_name("backends") / "nvidia" / "bin" / "cuobjdump"
        usage = subprocess.check_output([cuobjdump, "-res-usage", file.name], text=True)
    registers, stack = re.search(r"REG:(\\d+) STACK:(\\d+)", usage).groups()
    return {"name": kernel.metadata.name, "registers": int(registers), "spilled": int(stack),
            "shared": kernel.metadata.shared, "threads": 32 * kernel.metadata.num_warps, "ptx": kernel.asm["ptx"]}

print(json.dumps([figures(kernel) for kernel in kernels]))
"""


def compiled(calls: str, cache: object) -> list[dict[str, Any]]:
    """What the kernels need that the Python lines ``calls`` would launch, in that order.

    A dict for each: its name, its ptx, threads, registers of a thread, bytes of these that are spilled, and bytes of
    shared memory. ``cache`` is a folder of the test's own, so that nothing compiled earlier is taken for this.
    """
    environment = {**os.environ, "TRITON_CACHE_DIR": str(cache)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + calls + AFTER], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout)
