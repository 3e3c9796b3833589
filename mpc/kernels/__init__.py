"""Arithmetic of words: matrix products, bits, products of sets, numbers mod 2^128, comparison by carries."""

THREAD_WORK = 1 << 22
"""Word operations above which a kernel runs in a thread, about 5 ms, so that heartbeats go on."""
