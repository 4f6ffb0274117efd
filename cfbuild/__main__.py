"""`python -m cfbuild` is `cfbuild`."""

from cfbuild.cli import main

main()
