"""Linear regression, by descent and exactly: `python benchmarks/regression.py`, with the options of `beaver bench`."""

import sys

from parties.start import main

sys.argv[1:1] = ["bench", "--only", "W7,W10"]
main()
