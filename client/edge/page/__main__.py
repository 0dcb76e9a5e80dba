"""`python -m client.edge.page --state DIR`: the page without the rest of the command line."""

import typer

from client.edge.page.cli import page

if __name__ == "__main__":
    typer.run(page)
