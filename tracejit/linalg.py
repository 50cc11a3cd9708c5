"""``tracejit.linalg``."""
