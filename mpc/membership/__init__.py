"""Who takes part: keys, the roster and its file, and what a member remembers of the roster."""
