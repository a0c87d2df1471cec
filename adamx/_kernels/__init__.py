"""The C++ kernels, and the foreign calls of XLA through which they run."""
