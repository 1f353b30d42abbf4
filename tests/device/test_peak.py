"""clipes.device.peak: time and memory of a block."""

import subprocess
import sys

import pytest
import torch

from clipes.device import peak
from clipes.device.peak import Cost

CPU = torch.device("cpu")


ALONE = """
import numpy as np, torch
from clipes.device.peak import Cost
before, during, after = Cost(), Cost(), Cost()
with before.measured(torch.device("cpu")):
    pass
with during.measured(torch.device("cpu")):
    block = np.ones(64 << 20, np.uint8)
del block
with after.measured(torch.device("cpu")):
    pass
print(before.peak_bytes, during.peak_bytes, after.peak_bytes, during.seconds)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say the peak")
def test_the_peak_is_that_of_the_block_alone():
    """In a process of its own: one that has freed memory may take the block from it, and then the peak stays."""
    said = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True).stdout.split()
    if "None" in said:
        pytest.skip("/proc/self/clear_refs cannot be written")
    before, during, after = map(int, said[:3])
    assert during - before > 48 << 20 < during - after
    assert float(said[3]) > 0


def test_a_system_that_does_not_say_gives_none(monkeypatch, tmp_path):
    monkeypatch.setattr(peak, "_PROC", tmp_path / "none")
    cost = Cost()
    with cost.measured(CPU):
        pass
    assert cost.peak_bytes is None and cost.seconds > 0


def test_blocks_add_up_and_a_failed_one_does_not_count():
    cost = Cost(seconds=100.0, peak_bytes=1 << 60)
    with cost.measured(CPU):
        pass
    assert cost.seconds > 100 and cost.peak_bytes == 1 << 60
    seconds = cost.seconds
    with pytest.raises(ValueError), cost.measured(CPU):
        raise ValueError
    assert cost.seconds == seconds
