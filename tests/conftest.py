"""Tests import the collection by its full name, through the checkout's link to itself."""

import os
import sys
from pathlib import Path

from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".collections"))
sys.path.insert(0, str(ROOT))

# A test's run is none of which its user wants to see times.
os.environ["MUSTER_PROGRESS_HISTORY"] = ""

# A slow machine is no failure; how many inputs are tried is each test's or the profile's word.
settings.register_profile("muster", deadline=None, max_examples=100)
settings.register_profile("thorough", deadline=None, max_examples=200)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "muster"))
