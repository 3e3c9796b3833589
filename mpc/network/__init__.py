"""All peers of one identity: who is met, who dials, who was refused, and how well they are connected."""
