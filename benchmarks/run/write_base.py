"""Writes the `base` checkpoint: `python -m benchmarks.run.write_base FOLDER`."""

import argparse
from pathlib import Path

from benchmarks.compare.base_checkpoint import save_base


def main() -> None:
    """Write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    save_base(parser.parse_args().folder)


if __name__ == "__main__":
    main()
