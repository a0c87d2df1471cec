"""What a step did, and what a state holds."""
