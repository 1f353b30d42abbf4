"""clipes.device.peak: time and memory of a block."""

import sys

import numpy as np
import pytest
import torch

from clipes.device import peak
from clipes.device.peak import Cost

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not say the peak")
def test_the_peak_is_that_of_the_block_alone():
    before, during, after = Cost(), Cost(), Cost()
    with before.measured(CPU):
        pass
    if before.peak_bytes is None:
        pytest.skip("/proc/self/clear_refs cannot be written")
    with during.measured(CPU):
        block = np.ones(64 << 20, np.uint8)
    del block
    with after.measured(CPU):
        pass
    assert during.peak_bytes - before.peak_bytes > 48 << 20 < during.peak_bytes - after.peak_bytes
    assert during.seconds > 0


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
