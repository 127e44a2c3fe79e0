"""The commands and their options: the one module that knows click. Each command hands over to a module of its own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
import click

from .. import __version__
from .._checks import LARGEST_SETTING
from ..errors import ConfigurationError
from ..settings import LARGEST_AMOUNT, SMALLEST_PRICE
from .exits import Exit, RefusedError
from .interrupts import as_ctrl_c
from .progress import printable, say
from .purse import CURRENCIES, Purse
from .shell import as_typed
from .stdout import print_lines

if TYPE_CHECKING:
    from .reaching import Settings

__all__ = ["run"]

Command: TypeAlias = Callable[..., Exit]

RECORD_FORMATS = ["table", "jsonl", "csv"]

_EPILOG = (
    "Exit codes: 0 all answered, 1 some failed, 2 usage, 3 key, 4 budget or quota, 5 in doubt (may have been "
    "charged), 6 unreachable, 7 ledger, 130 interrupted."
)


def run(*, is_last: bool = False) -> int:
    """Run the command line; what can be expected to go wrong is one ``error:`` line and an exit code.

    Arguments:
        is_last: the process ends after this, with that code: a signal that comes while it does changes nothing.
    """
    # What the library would log as a warning is in the records and the summary already.
    logging.getLogger("oneauto_async").addHandler(logging.NullHandler())
    try:
        with as_ctrl_c(is_last=is_last):
            return int(_cli.main(prog_name="oneauto-async", standalone_mode=False) or 0)
    except click.ClickException as error:
        return _refused(f"{error.format_message()}{_help_hint(error)}", Exit.USAGE)
    except RefusedError as error:
        return _refused(str(error), error.code)
    except ConfigurationError as error:
        return _refused(str(error), Exit.USAGE)
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
    print_lines([f"oneauto-async {__version__}"])
    context.exit()


def _print_help(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    print_lines([context.get_help()])
    context.exit()


class _Command(click.Command):
    """A command whose help is printed as all else is, and so tells a full or closed standard output in one line."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _print_help
        return option


class _Group(_Command, click.Group):
    """A group of such commands."""

    command_class = _Command
    group_class = type

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click would end the line on a standard error that may be closed
            say("")
            raise RefusedError("interrupted", Exit.INTERRUPTED) from None


@click.group(
    cls=_Group,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
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


def _text(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """Read words of any language, whatever the locale."""
    return None if text is None else as_typed(text)


_SHARED = (
    click.option(
        "--rate",
        type=click.FloatRange(0, LARGEST_SETTING, min_open=True),
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
    click.option(
        "--key-file", type=click.Path(path_type=Path, readable=False), help="Read the API key from this file."
    ),
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
        type=click.FloatRange(0, LARGEST_SETTING),
        default=5.0,
        show_default=True,
        help="Seconds to wait for calls under way when a run ends early, as after Ctrl-C.",
    ),
    click.option(
        "--account",
        metavar="NAME",
        callback=_text,
        default="default",
        show_default=True,
        help="Your own label of the account that pays: a ledger keeps the books of each apart.",
    ),
    click.option(
        "--simulate", is_flag=True, help="Ask a private simulator on this machine: no key, no cost, made-up data."
    ),
)


@attrs.frozen
class _Amount:
    """An exact amount of money, and the sign of its currency."""

    value: Decimal
    sign: str


def _amount(_context: click.Context, parameter: click.Parameter, text: str | None) -> _Amount | None:
    """Read an amount, with or without a sign before it; a price is never nothing."""
    if text is None:
        return None
    bare = as_typed(text).strip()
    sign = bare[0] if bare and bare[0] in CURRENCIES else ""
    with contextlib.suppress(InvalidOperation):
        amount = Decimal(bare.removeprefix(sign))
        if amount.is_finite() and amount >= 0:
            _require_range(amount, SMALLEST_PRICE if parameter.name == "price" else Decimal(0))
            return _Amount(amount, sign or CURRENCIES[0])
    raise click.BadParameter(f"{text!r} is no amount such as 12.50 or £12.50")


def _require_range(amount: Decimal, least: Decimal) -> None:
    if not least <= amount <= LARGEST_AMOUNT:
        raise click.BadParameter(f"an amount here is from {least} to {LARGEST_AMOUNT:,}")


def _moment(_context: click.Context, _parameter: click.Parameter, text: str | None) -> date | None:
    """Read a date, or a time with its zone, that has begun: from one to come, nothing would count and no cap hold."""
    if text is None:
        return None
    moment = _date_or_time(text.strip())
    begin = moment if isinstance(moment, datetime) else datetime.combine(moment, time.min, UTC)
    if begin.tzinfo is None:
        raise click.BadParameter(f"{text!r} is a time without a zone: add one, as in {text.strip()}Z")
    if begin > datetime.now(UTC):
        raise click.BadParameter(f"{text!r} is still to come, and until then no cap would hold")
    return moment


def _date_or_time(text: str) -> date:
    for read in (date.fromisoformat, datetime.fromisoformat):
        with contextlib.suppress(ValueError):
            return read(text)
    raise click.BadParameter(f"{text!r} is no date such as 2026-11-01")


_OF_MONEY = (
    click.option(
        "--max-calls",
        type=click.IntRange(min=0),
        help="The most answers that may be charged: with a ledger, all it holds for the account and service count.",
    ),
    click.option(
        "--max-cost",
        metavar="AMOUNT",
        callback=_amount,
        help="The same as an amount of money; needs --price, in the same currency.",
    ),
    click.option(
        "--price",
        metavar="AMOUNT",
        callback=_amount,
        envvar="ONEAUTO_PRICE",
        help="What one answer costs, in pounds unless € or $ stands before it; else from ONEAUTO_PRICE.",
    ),
    click.option(
        "--since",
        metavar="DATE",
        callback=_moment,
        help="Count against the cap only what was bought from this day on, midnight UTC; needs a ledger.",
    ),
    click.option(
        "--max-age",
        type=click.FloatRange(0, LARGEST_SETTING, min_open=True),
        metavar="SECONDS",
        help="Buy again what the ledger has held for longer.",
    ),
    click.option(
        "--retry-in-doubt", is_flag=True, help="Send once more what is in doubt, which may be charged a second time."
    ),
)

_OF_LOOKUP = (
    click.option(
        "--format",
        "form",
        type=click.Choice(RECORD_FORMATS),
        help="[default: table on a terminal, else jsonl]",
    ),
    click.option(
        "--ledger",
        type=click.Path(path_type=Path, readable=False),
        help="Keep what is bought in this file, and serve what it holds.  [default: none]",
    ),
    *_OF_MONEY,
    click.option("--refresh", is_flag=True, help="Buy again whatever the ledger holds of these ids."),
    *_SHARED,
)


def _of_output(*, output: str, form: str) -> tuple[Callable[[Command], Command], ...]:
    """Return the options about the output of `bulk`, with their help: `estimate` takes them and writes nothing."""
    return (
        click.option("-o", "--output", metavar="OUTPUT", help=output),
        click.option("--format", "form", type=click.Choice(RECORD_FORMATS), help=form),
    )


_OUTPUT_WRITTEN = _of_output(
    output="Write the records to this file (.csv or .jsonl), in input order.",
    form="[default: by the suffix of OUTPUT; without -o, table on a terminal unless --no-ledger, else jsonl]",
)
_OUTPUT_CHECKED = _of_output(
    output="The file that `bulk` would write: it is checked, and its ledger read, but it is not made.",
    form="Taken as by `bulk`, and of no effect: nothing is written.",
)

_OF_BULK = (
    click.option(
        "--column",
        callback=_text,
        help="The CSV column or JSON member that holds the id; guessed, and told, if not given.",
    ),
    click.option(
        "--input-format",
        type=click.Choice(["csv", "tsv", "lines", "jsonl"]),
        help="[default: by the suffix of INPUT, else by its first line]",
    ),
    click.option(
        "--ledger",
        type=click.Path(path_type=Path, readable=False),
        help="Keep the books of what was asked and paid for in this file.  [default: OUTPUT.ledger; none with "
        "--simulate]",
    ),
    click.option("--no-ledger", is_flag=True, help="Keep no books: running again pays again."),
    *_OF_MONEY,
    click.option("--refresh-failed", is_flag=True, help="Buy again what the ledger holds and cannot be used."),
    *_SHARED,
)


def _with(options: tuple[Callable[[Command], Command], ...]) -> Callable[[Command], Command]:
    """Give a command these options, in this order."""

    def extended(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return extended


_NAMES_OF_MONEY = (
    "ledger",
    "no_ledger",
    "max_calls",
    "max_cost",
    "price",
    "since",
    "max_age",
    "retry_in_doubt",
    "refresh",
    "refresh_failed",
)


def _settings(*, burst: int | None, beside: Path | None = None, **options: Any) -> Settings:
    """Check what the options mean together, and return them as `Settings`; a ledger may stand ``beside`` an output."""
    from .reaching import Settings

    about_money = {name: options.pop(name) for name in _NAMES_OF_MONEY if name in options}
    if burst is not None and options["rate"] is None:
        raise click.UsageError("--burst needs --rate: together they say what your key allows")
    if options["simulate"]:
        beside = None
        if options["base_url"] or options["sandbox"] or options["key_file"]:
            raise click.UsageError(
                "--simulate asks a private simulator: leave --base-url, --sandbox and --key-file out"
            )
    return Settings(burst=burst or 1, purse=_purse(beside, **about_money), **options)


def _purse(
    beside: Path | None,
    *,
    ledger: Path | None,
    max_cost: _Amount | None,
    price: _Amount | None,
    no_ledger: bool = False,
    **others: Any,
) -> Purse:
    """Check what the options about money mean together, and return them as a `Purse`."""
    if ledger is not None and no_ledger:
        raise click.UsageError("--ledger and --no-ledger exclude each other")
    if beside is not None and not beside.name:
        raise click.UsageError(f"{beside} is a directory: give the name of a file in it")
    if ledger is None and beside is not None and not no_ledger:
        ledger = beside.with_name(f"{beside.name}.ledger")
    if max_cost is not None and price is None:
        raise click.UsageError("--max-cost needs --price, or ONEAUTO_PRICE: what one answer costs")
    if others["since"] is not None and max_cost is None and others["max_calls"] is None:
        raise click.UsageError("--since is about a cap: give --max-calls or --max-cost")
    for name in ("since", "max_age", "refresh", "refresh_failed"):
        if ledger is None and others.get(name):
            raise click.UsageError(f"--{name.replace('_', '-')} is about a ledger: give --ledger PATH")
    return Purse(
        ledger=ledger,
        declines_ledger=no_ledger,
        max_cost=None if max_cost is None else max_cost.value,
        price=None if price is None else price.value,
        currency=_currency(max_cost, price),
        **others,
    )


def _currency(*amounts: _Amount | None) -> str:
    signs = {amount.sign for amount in amounts if amount is not None} or {CURRENCIES[0]}
    if len(signs) > 1:
        raise click.UsageError(
            f"--max-cost and --price are in different currencies: an amount without a sign is in {CURRENCIES[0]}"
        )
    return signs.pop()


@_cli.command("lookup", epilog=_EPILOG)
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@_with(_OF_LOOKUP)
def _lookup(ids: tuple[str, ...], form: str | None, **options: Any) -> Exit:
    """Look up one id or several (evdb_vehicle_id), and print the records in the order given.

    With --ledger, what was paid for is kept there and served the next time; without, each call is paid for.
    """
    settings = _settings(**options)
    from .commands import lookup

    return lookup(ids, form=form, settings=settings)


@_cli.command("bulk", epilog=_EPILOG)
@click.argument("source", metavar="INPUT")
@click.option("--dry-run", is_flag=True, help="Print what the run would buy, and send nothing: the same as `estimate`.")
@_with((*_OUTPUT_WRITTEN, *_OF_BULK))
def _bulk(source: str, dry_run: bool, **options: Any) -> Exit:
    """Look up all ids of INPUT: CSV, one id per line (# starts a comment) or JSON Lines; - is standard input.

    All of INPUT is read and checked before anything is sent. An id that stands in several rows is asked once. Every
    input row gets one record, with the reason if there is no answer. OUTPUT takes its name only at the end; a run that
    was stopped gives it to what there is, and tells so. Without -o, records are printed as they finish, but a table
    comes at the end; a run that costs money then wants --ledger or --no-ledger.

    The ledger keeps every answer from the moment it comes: after Ctrl-C or a crash, the same command goes on, and pays
    for nothing twice. Without a ledger, the ids that are left are in OUTPUT.rest.txt or OUTPUT.rest.jsonl. A run that
    did not get through leaves an older OUTPUT that may hold more as it was, and one whose ledger failed makes none:
    what it has is in OUTPUT.partial.
    """
    return _run_bulk(source, dry_run=dry_run, **options)


@_cli.command("estimate", epilog=_EPILOG)
@click.argument("source", metavar="INPUT")
@_with((*_OUTPUT_CHECKED, *_OF_BULK))
def _estimate(source: str, **options: Any) -> Exit:
    """Tell what `bulk` would buy with the same options, and the most that it could cost.

    A kept answer that cost nothing (206) is taken to be of use: if it is not, it is asked for again.

    Nothing is sent, no key is needed, no file is left behind, and the ledger is only read. Options about pace and
    output are taken, so that one word changes, and change nothing here.
    """
    return _run_bulk(source, dry_run=True, **options)


def _run_bulk(
    source: str,
    *,
    output: str | None,
    form: str | None,
    column: str | None,
    input_format: str | None,
    dry_run: bool,
    **options: Any,
) -> Exit:
    place = None if output is None or output == "-" else Path(output)
    settings = _settings(beside=place, **options)
    from .commands import bulk

    return bulk(source, place, form=form, column=column, input_form=input_format, settings=settings, dry_run=dry_run)


@_cli.group("ledger", invoke_without_command=True, subcommand_metavar="COMMAND [ARGS]...")
@click.pass_context
def _ledger(context: click.Context) -> None:
    """Look into a ledger that `bulk` has kept, check it, and settle what is in doubt. No key is needed."""
    if context.invoked_subcommand is None:
        raise click.UsageError("say what to do with a ledger: show, export, verify or resolve", context)


_LEDGER_PATH = click.argument("path", type=click.Path(path_type=Path, readable=False))


@_ledger.command("show")
@_LEDGER_PATH
def _ledger_show(path: Path) -> Exit:
    """Tell what the ledger at PATH holds, what was spent, and list what is in doubt. The file is only read."""
    from .ledgers import show

    return show(path)


@_ledger.command("export")
@_LEDGER_PATH
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
def _ledger_export(path: Path, form: str) -> Exit:
    """Print every entry of the ledger at PATH, oldest first, with the answer as it came; a key is in none.

    The file is only read.
    """
    from .ledgers import export

    return export(path, form)


@_ledger.command("verify")
@_LEDGER_PATH
def _ledger_verify(path: Path) -> Exit:
    """Read all of the ledger at PATH and compare it with its checksums and sums; exit 7 if anything is wrong.

    The file is only read.
    """
    from .ledgers import verify

    return verify(path)


@_ledger.command("resolve")
@_LEDGER_PATH
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@click.option("--billed", is_flag=True, help="The vendor's log says that they were charged.  [one is required]")
@click.option("--not-billed", is_flag=True, help="The vendor's log says that they were not.")
@click.option("--entries", is_flag=True, help="The IDs are numbers of entries, as `ledger show` lists them.")
def _ledger_resolve(path: Path, ids: tuple[str, ...], billed: bool, not_billed: bool, entries: bool) -> Exit:
    """Settle what is in doubt in the ledger at PATH: was it charged? The next run may ask for these ids again."""
    if billed is not_billed:
        raise click.UsageError("say what became of them: either --billed or --not-billed")
    from .ledgers import resolve

    return resolve(path, ids, billed=billed, by_number=entries)


@_cli.command("simulate")
@click.option("--host", default="127.0.0.1", show_default=True, help="This machine's own address.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 for any free one.")
@click.option(
    "--rate",
    type=click.FloatRange(0, LARGEST_SETTING, min_open=True),
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
    "--latency",
    type=click.FloatRange(0, LARGEST_SETTING),
    default=0.05,
    show_default=True,
    help="Seconds the backend takes; refusals come at once.",
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
