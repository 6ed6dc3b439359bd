"""`python -m srinit`, for launchers such as torchrun."""

from srinit.cli import main

if __name__ == "__main__":
    main()
