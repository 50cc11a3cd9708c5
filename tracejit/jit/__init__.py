"""Compilation: capture by one real run, guards on what steered it, a tree of traces."""
