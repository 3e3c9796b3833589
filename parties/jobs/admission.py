"""What counts for a job: this node's configuration with its policy and roster, of now or of when this party signed the job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpc.errors import ConfigError, Disagreement, LocalFault
from mpc.messaging.job import describe, described
from parties.jobs.approvals import too_small, unasked
from parties.jobs.proposals import JOB
from parties.jobs.records import named
from parties.jobs.states import Waiting
from parties.policy import admit, least_pool

if TYPE_CHECKING:
    from mpc.messaging.job import Job
    from mpc.network.mesh import Mesh
    from parties.auditing.history import History
    from parties.config import NodeConfig
    from parties.jobs.job import Task
    from parties.jobs.records import Record, Records


class Admission:
    """`config` is what counts now.  What this party has signed goes on under the one that counted then."""

    def __init__(self, config: NodeConfig, mesh: Mesh, records: Records, history: History) -> None:
        self.config = config
        self.history = history
        self._mesh = mesh
        self._records = records

    def under(self, record: Record) -> NodeConfig:
        """What counts for a job."""
        return record.config or self.config

    def job(self, record: Record) -> Job:
        """What all its parties sign."""
        return described(record.id, self.under(record).load_roster(), record.task.parties, named(record.task))

    def digest(self, record: Record) -> bytes:
        """32 bytes that stand for it."""
        return self.job(record).digest

    def sign(self, record: Record) -> bytes:
        """This party's signature: what counts now counts for the job from here on."""
        record.config = self.config
        return self._mesh.identity.sign(JOB, self.digest(record))

    def members(self, record: Record) -> list[str]:
        """Who takes part in a job: who signs it, and the dealer."""
        dealer = self.under(record).load_roster().dealer
        return [*record.task.signers, *([dealer.name] if dealer else [])]

    def admits(self, task: Task, asker: str) -> bool:
        """Whether someone here must approve a job first, by what counts now; PolicyDenied or ConfigError as `admit` of the policy."""
        return admit(self.config, self.history, task, asker)

    def follow(self, config: NodeConfig) -> bool:
        """From now on `config` counts; whether its roster is another one, and so the digest of every job."""
        before, self.config = self.config, config
        return before.load_roster().digest != config.load_roster().digest

    def objection(self, record: Record, *, other_roster: bool) -> LocalFault | Disagreement | None:
        """Why a job that this party has not signed yet cannot be under what counts now, if it cannot."""
        try:
            asks = self.admits(record.task, record.asker)
        except (LocalFault, Disagreement) as fault:
            return fault
        if self.least(record.task) > record.task.pool:
            return too_small()
        if record.asker != self.config.name:
            return None
        if other_roster:
            return ConfigError("this node took another roster before the job started; run it again")
        return unasked() if asks and not isinstance(record.state, Waiting) and record.approval is None else None

    def least(self, task: Task) -> int:
        """How many rows this party wants all parties of the job to have together."""
        return least_pool(self.config.rules, task)

    def proposed(self, job: str, asker: str, task: Task) -> bool:
        """Whether someone here must approve a job that another member proposes, as `admits`; ConfigError too unless it is one of its own, under an id that is free."""
        if self._records.spent(job, asker):
            msg = f"{asker} proposed a job under an id that was used before; it runs its job again, under a new one"
            raise ConfigError(msg)
        if self._records.used_otherwise(job, asker, task):
            msg = f"{asker} proposed a job under the id of another; it runs its job again, under a new one"
            raise ConfigError(msg)
        describe(job, self._mesh, task.parties, named(task))
        if asker not in task.signers:
            msg = f"{asker} proposed a job that it takes no part in; it asks for its own only"
            raise ConfigError(msg)
        return self.admits(task, asker)


__all__ = ["Admission"]
