"""`python -m rawisp` is the `rawisp` command."""

from rawisp.cli.app import main

if __name__ == "__main__":
    main()
