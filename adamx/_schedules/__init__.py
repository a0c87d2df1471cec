"""Learning-rate schedules: pure functions of the step count, exact to the last step.

The count is an integer: a number, or an array or tracer of any shape, which the result
shares. The result is float32, or float64 where x64 is on. Values may be numbers, scalar
arrays or tracers; so may numbers of steps, though not the keys of a dict.
"""
