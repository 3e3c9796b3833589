"""Every error that Beaver raises on purpose, by who is at fault.

::

    BeaverError
    ├── LocalFault              mine: my files, my policy, my numbers, my program
    │   ├── ConfigError         a file, key, roster or setting of this organisation
    │   ├── JobCancelled        someone of this organisation ended the job, or its node
    │   ├── PolicyDenied        this organisation's policy forbids the job
    │   ├── PrecisionError      a number that does not fit, or a bound that could be exceeded
    │   └── ProgramError        the API was used in a way that cannot be safe
    └── RemoteFault             theirs: `.party` names the organisation
        ├── PeerLost            silent, dead, never came, or left the session
        ├── PeerMisbehaved      sent what the wire format does not allow, or too much at once
        ├── AuthenticationFailed  could not prove to be who the roster says
        ├── Disagreement        honest peers that run different programs, rosters or versions
        └── Refused             does not take a job: its policy denies it, or it has no room

A message says who, what and how to mend it.  It never holds a secret value, a key or a share.
"""

from __future__ import annotations


class BeaverError(Exception):
    """Base of all errors below.

    `party` is the organisation at fault, None for this one; `text` is the message without its name. `ending` is what members tell each
    other if a job ended before it began, unless the class alone says it.
    """

    party: str | None = None
    ending: str = ""

    def __init__(self, *what: object) -> None:
        super().__init__(*what)
        self.text = str(self)


class LocalFault(BeaverError):
    """The cause is at this organisation."""


class ConfigError(LocalFault):
    """A file, key, roster or setting of this organisation is wrong."""


class JobCancelled(LocalFault):
    """Someone of this organisation ended the job, or stopped its node."""


class PolicyDenied(LocalFault):
    """The policy of this organisation forbids the job. `rule` is the name of the rule that forbids it, if known."""

    def __init__(self, text: str = "", rule: str = "") -> None:
        super().__init__(text)
        self.rule = rule


class PrecisionError(LocalFault):
    """A number does not fit its declared bound, or a result could overflow the ring."""


class ProgramError(LocalFault, TypeError):
    """The API was used in a way that cannot be safe, or cannot stay in step with the peers."""


class RemoteFault(BeaverError):
    """The cause is at the organisation `party`."""

    party: str

    def __init__(self, party: str, text: str, ending: str = "") -> None:
        super().__init__(f"{party}: {text}")
        self.party = party
        self.text = text
        self.ending = ending


class PeerLost(RemoteFault):
    """A peer is silent, dead, never came or left the session."""


class PeerMisbehaved(RemoteFault):
    """A peer sent what the wire format does not allow, or more at once than any member takes."""


class AuthenticationFailed(RemoteFault):
    """A peer could not prove to be who the roster says."""


class Refused(RemoteFault):
    """A peer does not take a job: its policy denies it, or it serves as many as it can; or the dealer's machine has no memory for it."""


class Disagreement(RemoteFault):
    """A peer runs another program, roster, version or parameter."""
