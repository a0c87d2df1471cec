"""Adam in corrected moments."""

import numpy as np

from oracle.scalars import abs_sq, average, one_minus_power


def scale_by_adam_root(state, g, p, t, b1=0.9, b2=0.999, eps=0.0):
    """Adam's direction (Kingma & Ba, 2015, Algorithm 1), and the moments in it."""
    means = state.get("means", {"mu": 0.0, "nu": 0.0})
    mu, nu = average(means["mu"], g, b1), average(means["nu"], abs_sq(g), b2)
    mu_hat = mu / one_minus_power(b1, t)
    nu_root = np.sqrt(nu / one_minus_power(b2, t))
    floor = nu_root + eps
    u = np.where(floor > 0, mu_hat / np.where(floor > 0, floor, 1.0), 0.0)
    return u, {"means": {"mu": mu, "nu": nu}, "mu_hat": mu_hat, "nu_root": nu_root}
