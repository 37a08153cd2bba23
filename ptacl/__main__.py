"""`python -m ptacl` is the `ptacl` command."""

import sys

from ptacl.cli import main

sys.exit(main())
