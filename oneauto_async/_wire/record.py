"""Where one request stands on the wire, kept where whoever pays can read it, whatever comes."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import attrs

from .._classify import Flaw, Headers, charge_of
from ..errors import Billing

EXTENSION = "oneauto_async.flight"
"""The name of the record among a request's extensions."""


class Stage(Enum):
    """How far a request has got."""

    NOT_SENT = "not sent"
    """Nothing of it was written, so it surely cannot be charged."""
    SENT = "sent"
    """Bytes were written, so it may be charged."""
    ANSWERED = "answered"
    """A status and whole headers were seen."""
    COMPLETE = "complete"
    """The whole answer was received."""


class HeldBack(Exception):  # noqa: N818  # a way out of the request, not a fault
    """None of the request has left, and it must not leave now: it has to begin anew."""


NOT_SENT, SENT, ANSWERED, COMPLETE = Stage  # taken out once: each look into an enum costs as much as a call


@attrs.define(eq=False)
class FlightRecord:
    """The record of one request; the transport writes it, and it stays readable after any end.

    Attributes:
        deadline: seconds the whole exchange may take, from taking a connection to the last byte; ``None`` for the
            transport's own limit.
        on_sent: called with the moment the request's bytes left.
        may_leave: whether the request may leave still, asked when a connection that had to be waited for is there.
        is_kept: the transport writes this record; else only its exceptions tell how far a request got.
        stage: how far it has got.
        is_assumed: it counts as sent because somebody else has it, who may send without a word.
        let_go_by: what our transport has raised without having sent it, where somebody around it may send it now.
        was_sent: it had left, and may have been charged, before it was sent once more.
        sent_at: the moment on the event loop's clock when its bytes left, or ``None`` before.
        bytes_sent: how many bytes were written.
        status: the final status, once answered.
        headers: the final headers, once answered.
        body: the body as far as it came, without its content coding where that could be undone.
        flaw: why the body is not whole, if it is not.
    """

    deadline: float | None = None
    on_sent: Callable[[float], None] | None = None
    may_leave: Callable[[], bool] | None = None
    is_kept: bool = False
    stage: Stage = NOT_SENT
    is_assumed: bool = False
    let_go_by: BaseException | None = attrs.field(default=None, repr=False)
    was_sent: bool = False
    sent_at: float | None = None
    bytes_sent: int = 0
    status: int | None = None
    headers: Headers = attrs.field(default=(), repr=False)  # they may echo the key
    body: bytes = attrs.field(default=b"", repr=False)
    flaw: Flaw | None = None

    def send_again(self) -> None:
        """Begin once more, for whoever sends the same request again; what may have been charged once stays known."""
        was_free = self.stage is COMPLETE and self.status is not None and charge_of(self.status) is Billing.NOT_BILLED
        self.was_sent = self.was_sent or not (self.is_assumed or was_free)
        self.restart()

    def restart(self) -> None:
        """Forget an exchange of which nothing has left after all."""
        self.is_assumed = False
        self.stage, self.sent_at, self.bytes_sent = NOT_SENT, None, 0
        self.status, self.headers, self.body, self.flaw = None, (), b"", None

    def require_leave(self) -> None:
        """Raise `HeldBack` if the request may not leave any more."""
        if self.may_leave is not None and not self.was_sent and not self.may_leave():
            raise HeldBack

    def assume_sent(self, moment: float) -> None:
        """Note that from now on somebody else has the request, who may send it without a word."""
        self.is_kept = False
        self.sent(moment)
        self.is_assumed = True

    def let_go(self, error: BaseException, moment: float) -> None:
        """Note that our transport gives it back unsent: whoever is around that may send it by another way."""
        self.assume_sent(moment)
        self.let_go_by = error

    def hear(self, error: BaseException) -> None:
        """Learn how the exchange ended: nobody has sent what ends with the very error that our transport let go."""
        if self.let_go_by is not None and self.let_go_by in {error, error.__cause__}:  # a timeout has it for its cause
            self.restart()
            self.is_kept = True
        self.let_go_by = None

    def sent(self, moment: float, size: int = 0) -> None:
        """Note, once, that the request's bytes leave."""
        if self.stage is NOT_SENT:
            self.stage, self.sent_at, self.bytes_sent = SENT, moment, size
            if self.on_sent is not None:
                self.on_sent(moment)
