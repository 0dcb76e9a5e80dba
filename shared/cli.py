"""The front door."""


def main() -> None:
    """Replaced below."""
