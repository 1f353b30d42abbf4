"""I2CRC's rules for a mask that does not fit the image's labels, against the numbers of its authors' code."""

import numpy as np
import pytest
from golden import arrays, same

from clipes.label_rules import trusted_mask

GOLDEN = arrays("before", "label_rules")
CASES = sorted((key.removesuffix("_new") for key in GOLDEN if key.endswith("_new")), key=int)


@pytest.mark.parametrize("case", CASES)
def test_case(case):
    labels = np.flatnonzero(GOLDEN[f"{case}_present"]).tolist()
    found = trusted_mask(GOLDEN[f"{case}_new"], labels, GOLDEN[f"{case}_old"])
    same(f"{case}_result", found, GOLDEN[f"{case}_result"])
