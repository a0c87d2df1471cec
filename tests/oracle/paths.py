"""Numbers of their own for the parameters b/x, b/y and w, in this order."""


def scale_by_path(state, g, p, t):
    """Multiplies each by its number."""
    return [m * x for m, x in zip([0.0, 1.5, 0.3], g, strict=True)], state


def add_decayed_weights_by_path(state, g, p, t):
    """Adds to each its number times the parameter."""
    return [x + d * y for d, x, y in zip([0.0, 0.5, 0.1], g, p, strict=True)], state
