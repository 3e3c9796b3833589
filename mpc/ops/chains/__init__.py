"""Chains of products of few elements, each of which needs the one before: several of them take one round.

`mul` and `mul_trunc` use these by themselves, depending on shapes and types alone. Programs that multiply by one masked value after another
gain, such as powers, polynomials and recurrences: of the benchmarks W6 (integers, `factors` and `groups`), W6-fixed and W6-fine (fixed
point, `continued` and `lift`). W3, W5 and W7, whose products are large or of matrices, do not. The reasons are in decisions 0012, 0018 and
0020 (quotients), 0024 and 0028 (groups), and 0025 to 0027 (work that is not awaited).

Numbers mod 2^128 are in `mpc.kernels.wide`, since the dealer computes with them, too.
"""
