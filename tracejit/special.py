"""``tracejit.special``."""
