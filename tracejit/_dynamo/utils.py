"""``tracejit._dynamo.utils``: what packages ask of torch's tracer before they use it inside.

Invariant: it is not there, so they take their plain path, which a capture follows.
"""

__all__ = ["is_compile_supported"]


def is_compile_supported(device_type: str) -> bool:
    """False."""
    return False
