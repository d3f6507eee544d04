"""python -m hartonomous"""

from ._cli import main

main()
