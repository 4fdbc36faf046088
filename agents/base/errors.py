"""Every error that geolane raises on purpose, in one tree.

    GeolaneError
    ├── SettingsError            a key or value in settings, inventory or lane map is wrong
    ├── JournalError             the journal cannot be read, or lacks what was asked for
    ├── InstallError             something that `make install` installs is missing
    ├── KafkaError
    │   ├── KafkaUnavailable     no answer in time; a retry may succeed
    │   │   └── TransactionUndecided  whether a fenced transaction was committed is not known
    │   ├── LeaseLost            our producer is fenced, or its transaction's outcome is not known
    │   └── LeadershipLost       another coordinator has taken `geolane-coordinator`
    ├── XmppError
    │   ├── NotConnected         there is no session now
    │   │   └── PasswordRefused  the server refuses the password or certificate
    │   ├── NoAnswer             no answer in time; the command may have been obeyed
    │   ├── StaleEpoch           the worker has seen a higher epoch (`seen`)
    │   ├── CommandRefused       any other refusal, with its XMPP condition
    │   └── NameTaken            another session holds our full JID
    ├── FlinkError               Flink cannot do it, or what answers is not Flink
    │   ├── FlinkUnavailable     no answer in time; a retry may succeed
    │   └── FlinkRefused         Flink answers with an error (`status`, `trace`)
    │       └── SessionExpired   the SQL Gateway does not know our session any more
    ├── GeoError
    │   ├── PlaceUnknown         there is no such place, or the text is not a place's name: for good
    │   └── ProviderUnavailable  the provider of maps does not answer now (`retry_s`)
    │       └── ProviderFailed   it was asked this very question, and failed
    ├── PictureError             a picture could not be drawn
    ├── PipelineError            the user's pipeline cannot be loaded, or violates its contract
    ├── ImpossibleTransition     the core was given an impossible event; carries its story
    └── OperatorError            a typed command cannot be done; the text is the answer

A message says what was wrong, where, and what to do. Errors of other libraries are mapped to
these where they enter.
"""

import os
import re
import ssl

_ERRNO = re.compile(r"\[Errno -?\d+\] ")


class GeolaneError(Exception):
    """Root of the tree."""


def system_reason(error: OSError) -> str:
    """The system's reason for people, without its number: `connection refused`."""
    if error.errno is not None and error.errno > 0 and not isinstance(error, ssl.SSLError):
        text = os.strerror(error.errno)
    else:  # several at once, or a library's own
        text = _ERRNO.sub("", str(error)) or type(error).__name__
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


class SettingsError(GeolaneError):
    """The message names the file, the key and the right form."""


class InstallError(GeolaneError):
    """The message names what is missing and the command that installs it."""


class JournalError(GeolaneError):
    """The journal is damaged, was written by a version that this one cannot read, or does not hold
    what was asked for."""


class KafkaError(GeolaneError):
    """Anything from the data plane."""


class KafkaUnavailable(KafkaError):
    """No answer in time; a retry may succeed."""


class TransactionUndecided(KafkaUnavailable):
    """The transaction's markers are missing, so its outcome is not known. Nobody may continue from
    there until it is ended."""


class LeaseLost(KafkaError):
    """Our producer is fenced, or the outcome of its transaction is unknown (PROTOCOL 2.1, 3.3). The
    process must end."""


class LeadershipLost(KafkaError):
    """Another process has taken the transactional id `geolane-coordinator` (PROTOCOL 2.11). This
    process must end."""


class XmppError(GeolaneError):
    """Anything from the control plane."""


class NotConnected(XmppError):
    """There is no session now."""


class PasswordRefused(NotConnected):
    """The server refuses the password or certificate. A worker retries, since a rotation may be
    under way."""


class NoAnswer(XmppError):
    """No answer came in time. Whether the command was obeyed is unknown (PROTOCOL 2.4)."""


class StaleEpoch(XmppError):
    """The worker has already seen the higher epoch `seen` for this command (PROTOCOL 2.5)."""

    def __init__(self, seen: int) -> None:
        super().__init__(f"the worker has seen epoch {seen}")
        self.seen = seen


class CommandRefused(XmppError):
    """Refused with the XMPP error condition `condition`. `detail` is the protocol's own condition
    beside it (`bad-sessionid`); `text` is the other side's message."""

    def __init__(self, condition: str, text: str = "", detail: str = "") -> None:
        super().__init__(f"{condition}: {text}" if text else condition)
        self.condition, self.text, self.detail = condition, text, detail


class NameTaken(XmppError):
    """Another session holds our full JID (`resource_conflict: closenew`)."""


class FlinkError(GeolaneError):
    """Flink cannot do what was asked, or something else answers in its place."""


class FlinkUnavailable(FlinkError):
    """No answer in time; a retry may succeed."""


class FlinkRefused(FlinkError):
    """Flink answers with an error: its HTTP status, and all that it says. The message has the
    reason, in one line."""

    def __init__(self, text: str, status: int, trace: str) -> None:
        super().__init__(text)
        self.status, self.trace = status, trace


class SessionExpired(FlinkRefused):
    """The SQL Gateway does not know our session any more: it was idle for too long, or the gateway
    was started again. Its tables and settings are gone."""


class GeoError(GeolaneError):
    """Anything from a provider of maps."""


class PlaceUnknown(GeoError):
    """There is no such place, or the text cannot be a place's name. Asking again does not help.
    The message is the reason, for people."""


class ProviderUnavailable(GeoError):
    """The provider does not answer now: its budget is used up, it is away, or it says so.
    `retry_s`: how long to wait before it is asked again."""

    def __init__(self, reason: str, retry_s: float) -> None:
        super().__init__(reason)
        self.retry_s = retry_s


class ProviderFailed(ProviderUnavailable):
    """The provider was asked this very question, and failed: another may be answered."""


class PictureError(GeolaneError):
    """A picture could not be drawn. The message ends with the last output of the process that drew
    it."""


class PipelineError(GeolaneError):
    """The user's pipeline cannot be loaded, or returned a list of the wrong length."""


class ImpossibleTransition(GeolaneError):
    """The core was given an impossible event. The message is the story that led to it."""


class OperatorError(GeolaneError):
    """A command that somebody typed cannot be done. The message is the answer they get."""
