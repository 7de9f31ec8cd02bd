"""``python -m coat``, for launchers such as torchrun."""

from coat.cli import main

main()
