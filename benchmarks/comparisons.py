"""Comparisons and the maximum: `python benchmarks/comparisons.py`, with the options of `beaver bench`."""

import sys

from parties.start import main

sys.argv[1:1] = ["bench", "--only", "W4,W9"]
main()
