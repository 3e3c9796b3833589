"""Arithmetic of words: matrix products, bits, products of sets, numbers mod 2^128, comparison by carries."""
