"""The commands and their options: the one module that knows click. Each command hands over to a module of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from .. import __version__
from .exits import Exit, RefusedError
from .progress import printable, say

if TYPE_CHECKING:
    from .reaching import Settings

__all__ = ["run"]

Command: TypeAlias = Callable[..., Exit]

_EPILOG = (
    "Exit codes: 0 all answered, 1 some failed, 2 usage, 3 key, 4 quota, 5 in doubt (may have been charged), "
    "6 unreachable, 130 interrupted."
)


def run() -> int:
    """Run the command line; what can be expected to go wrong is one ``error:`` line and an exit code."""
    # What the library would log as a warning is in the records and the summary already.
    logging.getLogger("oneauto_async").addHandler(logging.NullHandler())
    try:
        return int(_cli.main(prog_name="oneauto-async", standalone_mode=False) or 0)
    except click.ClickException as error:
        return _refused(f"{error.format_message()}{_help_hint(error)}", Exit.USAGE)
    except RefusedError as error:
        return _refused(str(error), error.code)
    except (KeyboardInterrupt, click.Abort):
        return _refused("interrupted", Exit.INTERRUPTED)


def _refused(message: str, code: Exit) -> int:
    say("error: " + "\n".join(printable(line) for line in message.split("\n")))
    return code


def _help_hint(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return "" if context is None else f" (see `{context.command_path} --help`)"


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    click.echo(f"oneauto-async {__version__}")
    context.exit()


@click.group(invoke_without_command=True, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.pass_context
def _cli(context: click.Context) -> Exit | None:
    """Look up what electric vans can do with bi-directional charging, at One Auto API.

    The API key is read from ONEAUTO_API_KEY, from the file named by ONEAUTO_API_KEY_FILE or from --key-file; it is
    never an option, because others can read a command line. Data go to standard output or -o, all else to standard
    error. With --simulate no key is needed and nothing is paid.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        return Exit.USAGE
    return None


_SHARED = (
    click.option(
        "--rate",
        type=click.FloatRange(min=0, min_open=True),
        help="Calls per second your key allows; unknown if not given.",
    ),
    click.option(
        "--burst",
        type=click.IntRange(min=1),
        help="Calls your key allows at once after a rest; needs --rate.  [default: 1]",
    ),
    click.option(
        "--concurrency", type=click.IntRange(1, 1000), default=50, show_default=True, help="Lookups under way at once."
    ),
    click.option("--base-url", metavar="URL", help="Ask this address instead of the live service."),
    click.option("--sandbox", is_flag=True, help="Ask the vendor's sandbox, which returns fixed sample data."),
    click.option("--key-file", type=click.Path(path_type=Path), help="Read the API key from this file."),
    click.option(
        "--endpoint",
        "vehicle",
        type=click.Choice(["van", "car"]),
        default="van",
        show_default=True,
        help="What the ids stand for.",
    ),
    click.option(
        "--drain",
        type=click.FloatRange(min=0),
        default=5.0,
        show_default=True,
        help="Seconds to wait after Ctrl-C for calls under way.",
    ),
    click.option(
        "--simulate", is_flag=True, help="Ask a private simulator on this machine: no key, no cost, made-up data."
    ),
)


def _with_shared_options(command: Command) -> Command:
    for option in reversed(_SHARED):
        command = option(command)
    return command


def _settings(*, burst: int | None, **options: Any) -> Settings:
    """Check what the options mean together, and return them as `Settings`."""
    from .reaching import Settings

    if burst is not None and options["rate"] is None:
        raise click.UsageError("--burst needs --rate: together they say what your key allows")
    if options["simulate"] and (options["base_url"] or options["sandbox"] or options["key_file"]):
        raise click.UsageError("--simulate asks a private simulator: leave --base-url, --sandbox and --key-file out")
    return Settings(burst=burst or 1, **options)


@_cli.command("lookup", epilog=_EPILOG)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option(
    "--format", "form", type=click.Choice(["table", "jsonl", "csv"]), help="[default: table on a terminal, else jsonl]"
)
@_with_shared_options
def _lookup(ids: tuple[str, ...], form: str | None, **options: Any) -> Exit:
    """Look up one id or several (evdb_vehicle_id), and print the records in the order given."""
    settings = _settings(**options)
    from .commands import lookup

    return lookup(ids, form=form, settings=settings)


@_cli.command("bulk", epilog=_EPILOG)
@click.argument("source", metavar="INPUT")
@click.option(
    "-o", "--output", metavar="OUTPUT", help="Write the records to this file (.csv or .jsonl), in input order."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "jsonl", "csv"]),
    help="[default: by the suffix of OUTPUT; without -o, table on a terminal, else jsonl]",
)
@click.option("--column", help="The CSV column or JSON member that holds the id; guessed, and told, if not given.")
@click.option(
    "--input-format",
    type=click.Choice(["csv", "tsv", "lines", "jsonl"]),
    help="[default: by the suffix of INPUT, else by its first line]",
)
@_with_shared_options
def _bulk(
    source: str, output: str | None, form: str | None, column: str | None, input_format: str | None, **options: Any
) -> Exit:
    """Look up all ids of INPUT: CSV, one id per line (# starts a comment) or JSON Lines; - is standard input.

    All of INPUT is read and checked before anything is sent. An id that stands in several rows is asked once. Every
    input row gets one record, with the reason if there is no answer. OUTPUT takes its name only at the end, also after
    Ctrl-C; what is left then is in OUTPUT.rest.txt. Without -o, records are printed as they finish.
    """
    settings = _settings(**options)
    from .commands import bulk

    place = None if output in (None, "-") else Path(output or "")
    return bulk(source, place, form=form, column=column, input_form=input_format, settings=settings)


@_cli.command("simulate")
@click.option("--host", default="127.0.0.1", show_default=True, help="This machine's own address.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 for any free one.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Calls per second the key allows; no limit if not given.",
)
@click.option(
    "--burst",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Calls the key allows at once after a rest.",
)
@click.option("--quota", type=click.IntRange(min=0), help="Calls the key allows in all.")
@click.option(
    "--latency", type=click.FloatRange(min=0), default=0.05, show_default=True, help="Seconds an answer takes."
)
@click.option("--retry-after", metavar="VALUE", help="The Retry-After that a 429 carries; the real ones have none.")
@click.option(
    "--outage",
    metavar="START:LENGTH[:STATUS[:RETRY_AFTER]]",
    help="Fail for LENGTH seconds, START seconds after the first call, with STATUS (503).",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random request ids.")
@click.option("--list-ids", is_flag=True, help="List the ids that get a special answer.")
def _simulate(host: str, port: int, list_ids: bool, **behaviour: Any) -> Exit:
    """Run a simulator of the service on this machine until Ctrl-C. Its data are made up and nothing is paid."""
    from .simulating import run_simulator, simulator_from

    return run_simulator(simulator_from(**behaviour), host=host, port=port, list_ids=list_ids)
