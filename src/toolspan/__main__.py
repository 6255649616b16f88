"""`python -m toolspan`, and the `toolspan` command."""

from toolspan.cli import signals


def main() -> None:
    """Run the command line."""
    # Before anything heavy is imported: a SIGTERM at any time ends in order.
    signals.install()
    from toolspan.cli.main import cli  # noqa: PLC0415

    cli()


if __name__ == "__main__":
    main()
