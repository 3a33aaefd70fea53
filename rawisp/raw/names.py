"""How a camera is called in sentences."""

from rawisp.errors import printable

_LONGEST = 64


def stated_text(text: str) -> str:
    """Text that a file states about itself, fit for a message: printable, one line, not endless."""
    return printable(text.strip("\0 \t\r\n"))[:_LONGEST]


def camera_name(make: str, model: str) -> str:
    """Make and model as one phrase, the make not twice: "NIKON D750", "SONY DSC-RX100M7"."""
    first_word = make.split()[0].casefold() if make.split() else ""
    name = model if first_word and model.casefold().startswith(first_word) else f"{make} {model}"
    return name.strip() or "unknown camera"
