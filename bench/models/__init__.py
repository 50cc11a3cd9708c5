"""Models whose training step is timed: one file each, with one definition for torch's API, one for
JAX and the loss in NumPy. Invariant: parameters have the names and shapes of torch's modules.
"""
