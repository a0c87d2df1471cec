"""Blocks: a gradient in, a gradient out."""
