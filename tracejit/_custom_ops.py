"""``tracejit._custom_ops``: a file of torch that packages import before ``torch.library``.

Invariant: empty.
"""
