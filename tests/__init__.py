"""Tests of mpc, protocols and parties, and the parts that they share."""
