"""`python -m roost.client.cli` is the `roost` command."""

from roost.client.cli.app import main

main()
