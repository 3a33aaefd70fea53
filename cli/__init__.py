"""The command line: thin Typer commands that parse, call one function of rawisp, and print."""

if __name__ != "rawisp.cli":
    raise ImportError("import rawisp.cli, not cli")
