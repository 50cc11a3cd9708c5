"""``python -m tracejit`` is the command ``tracejit``."""

import sys

from tracejit.cli import main

sys.exit(main())
