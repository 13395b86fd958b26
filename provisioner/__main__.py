"""The ``nsprov`` command."""

import gc

from provisioner.cli import main

# A plan of thousands of resources makes millions of small values, and hardly any circles among them: looking
# for those as often as Python does by itself takes a fifth of the time.
gc.set_threshold(100_000, 50, 100)

if __name__ == "__main__":
    main()
