"""Run the command line as ``python -m mstore``."""

from mstore.cli.main import main

if __name__ == "__main__":
    main()
