"""The messages of one session: who is there, what all agreed on, openings, and why it ended."""
