"""`python -m skipdit_cli` is `skipdit`."""

from skipdit_cli.cli import main

if __name__ == "__main__":
    main()
