"""BLIP-2 serving, without knowledge of the web framework in front of it (see ARCHITECTURE.md)."""

import os

__version__ = "0.1.0"

# Read by OpenMP when torch is loaded: threads that wait for each other sleep instead of spinning, which on shared
# cores is the difference between 10 and 170 ms a request.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
