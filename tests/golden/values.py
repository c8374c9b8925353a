"""The values of the reference implementation that lie beside this file."""

from pathlib import Path

from benchmarks.golden import Golden

load = Golden(Path(__file__).parent).load
