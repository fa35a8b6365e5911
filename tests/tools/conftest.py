"""The tools are no part of the installed package: the repository's root joins the path."""

import sys

from conftest import ROOT

sys.path.insert(0, str(ROOT))
