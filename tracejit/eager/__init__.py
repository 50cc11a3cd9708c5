"""Eager execution: every op runs at once on real values, and is recorded when asked for."""
