"""`python -m fastbp.insight serve RUN_DIR`: the page of a running training."""

import sys

from fastbp.insight._serve import main

sys.exit(main())
