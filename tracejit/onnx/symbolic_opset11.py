"""``tracejit.onnx.symbolic_opset11``: a file of torch that packages import for their exporters.

Invariant: empty; nothing is exported.
"""
