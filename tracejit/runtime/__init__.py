"""The runtime: thread pool, native programs, matrix multiplication, memory for results."""
