"""Products of vectors, matrices and long chains: `python benchmarks/products.py`, with the options of `beaver bench`."""

import sys

from parties.start import main

sys.argv[1:1] = ["bench", "--only", "W3,W5,W6"]
main()
