"""Secure sum, mean and variance: `python benchmarks/sums.py`, with the options of `beaver bench`."""

import sys

from parties.start import main

sys.argv[1:1] = ["bench", "--only", "W1,W2"]
main()
