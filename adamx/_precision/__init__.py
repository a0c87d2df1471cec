"""Low-precision states and weights."""
