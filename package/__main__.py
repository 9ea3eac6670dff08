"""The command line as `python -m tgdfer`."""

import sys

from tgdfer.command_line import main

sys.exit(main())
