"""Every error that geolane raises on purpose, in one tree.

    GeolaneError
    ├── SettingsError            a key or value in settings, inventory or lane map is wrong
    ├── JournalError             what the journal holds cannot be read, or was not asked for
    ├── InstallError             something that `make install` brings is missing
    ├── KafkaError
    │   ├── KafkaUnavailable     no answer within the bound; trying again may help
    │   │   └── TransactionUndecided  whether a fenced transaction was committed cannot be known
    │   ├── LeaseLost            our producer is fenced or its transaction cannot be known
    │   ├── LeadershipLost       another coordinator has taken `geolane-coordinator`
    │   └── OffsetMissing        a partition that is not new has no committed offset
    ├── XmppError
    │   ├── NotConnected         no session now
    │   │   └── PasswordRefused  the server does not take the password, or the certificate
    │   ├── NoAnswer             no answer in time; the command may have been obeyed
    │   ├── StaleEpoch           the worker has seen a higher epoch (`seen`)
    │   ├── CommandRefused       any other refusal, with its XMPP condition
    │   └── NameTaken            another session holds our full JID
    ├── PictureError             a picture could not be drawn
    ├── PipelineError            the user's pipeline cannot be loaded, or keeps its contract not
    ├── ImpossibleTransition     the core was told what cannot be; carries the story of it
    └── OperatorError            what somebody typed cannot be done; the text is the answer

A message says what was wrong, where, and what to do. Errors of other libraries are mapped where
they enter (tests/test_errors.py).
"""


class GeolaneError(Exception):
    """Root of the tree."""


class SettingsError(GeolaneError):
    """Names the file, the key and what would be right."""


class InstallError(GeolaneError):
    """Names what is missing and the command that brings it."""


class JournalError(GeolaneError):
    """What the journal holds cannot be read by this version, is damaged, or is not what was asked
    for."""


class KafkaError(GeolaneError):
    """Anything from the data plane."""


class KafkaUnavailable(KafkaError):
    """No answer within the bound; trying again may help."""


class TransactionUndecided(KafkaUnavailable):
    """Its markers are missing, and how it ended is not known: nobody may go on from there until
    somebody ends it."""


class LeaseLost(KafkaError):
    """Our producer is fenced, or the outcome of its transaction is unknown (PROTOCOL 2.1, 3.3): the
    process must end."""


class LeadershipLost(KafkaError):
    """The transactional id `geolane-coordinator` belongs to another process now (PROTOCOL 2.11):
    this one must end."""


class OffsetMissing(KafkaError):
    """A partition that is not new has no committed offset (PROTOCOL 2.7): it stops with an
    alert."""


class XmppError(GeolaneError):
    """Anything from the control plane."""


class NotConnected(XmppError):
    """There is no session now."""


class PasswordRefused(NotConnected):
    """The server does not take the password or certificate; a worker tries again, since it may be
    rotated just now."""


class NoAnswer(XmppError):
    """Nothing came back within the bound; whether the command was obeyed is unknown (PROTOCOL
    2.4)."""


class StaleEpoch(XmppError):
    """The worker has already seen the epoch `seen` for what was sent (PROTOCOL 2.5)."""

    def __init__(self, seen: int) -> None:
        super().__init__(f"the worker has seen epoch {seen}")
        self.seen = seen


class CommandRefused(XmppError):
    """Refused with the XMPP error condition `condition`; `detail` is a protocol's own beside it
    (`bad-sessionid`), `text` the other side's words."""

    def __init__(self, condition: str, text: str = "", detail: str = "") -> None:
        super().__init__(f"{condition}: {text}" if text else condition)
        self.condition, self.text, self.detail = condition, text, detail


class NameTaken(XmppError):
    """Another session holds our full JID (`resource_conflict: closenew`)."""


class PictureError(GeolaneError):
    """A picture could not be drawn; the message has the last that was said of it."""


class PipelineError(GeolaneError):
    """The user's pipeline cannot be loaded, or answers with a list of another length."""


class ImpossibleTransition(GeolaneError):
    """The core was told something that cannot be; the message is the story that led to it."""


class OperatorError(GeolaneError):
    """What somebody typed cannot be done; the text is the answer they get."""
