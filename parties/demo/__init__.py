"""The demo: three hospitals and a dealer, each its own process, compute on real data that none of them shows."""
