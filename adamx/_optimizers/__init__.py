"""One algorithm per file: formula, state, `scale_by_x`, recipe."""
