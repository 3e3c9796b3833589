"""Jobs: as data, asked for, approved, accepted, run, and what came of them."""
