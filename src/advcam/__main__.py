"""``python -m advcam``."""

import sys

from advcam.cli import main

sys.exit(main())
