"""`python -m roost.sim`, which `roost simulate` becomes."""

from roost.sim.cli import main

if __name__ == "__main__":
    main()
