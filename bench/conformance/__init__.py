"""How far tracejit agrees with torch, by torch's own samples (see bench/torch_conformance.py)."""
