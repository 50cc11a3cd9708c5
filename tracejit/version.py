"""``tracejit.version``: torch's names for how a build was made.

Invariant: `cuda` and `hip` are None, as in a build of torch without them: GPU code is generated
when it runs.
"""

import tracejit

__all__ = ["__version__", "cuda", "debug", "git_version", "hip"]

__version__: str = tracejit.__version__
debug = False
cuda = None
hip = None
git_version = "Unknown"
