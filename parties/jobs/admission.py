"""The configuration, policy and roster that apply to a job: those of now, or those of when this party signed the job."""

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
    """`config` is the configuration that applies now.  A job that this party has signed keeps the one under which it was signed."""

    def __init__(self, config: NodeConfig, mesh: Mesh, records: Records, history: History) -> None:
        self.config = config
        self.history = history
        self._mesh = mesh
        self._records = records

    def under(self, record: Record) -> NodeConfig:
        """Return the configuration that applies to a job."""
        return record.config or self.config

    def job(self, record: Record) -> Job:
        """Return the job description that all parties of the job sign."""
        return described(record.id, self.under(record).load_roster(), record.task.parties, named(record.task))

    def digest(self, record: Record) -> bytes:
        """Return the digest of that description, 32 bytes."""
        return self.job(record).digest

    def sign(self, record: Record) -> bytes:
        """Return this party's signature.  From here on the job keeps the configuration that applies now."""
        record.config = self.config
        return self._mesh.identity.sign(JOB, self.digest(record))

    def members(self, record: Record) -> list[str]:
        """Return the members that take part in a job: its signers, and the dealer."""
        dealer = self.under(record).load_roster().dealer
        return [*record.task.signers, *([dealer.name] if dealer else [])]

    def admits(self, task: Task, asker: str) -> bool:
        """Return whether someone here must first approve a job, by the policy that applies now.

        Raises PolicyDenied or ConfigError as `policy.admit` does.
        """
        return admit(self.config, self.history, task, asker)

    def follow(self, config: NodeConfig) -> bool:
        """Apply `config` from now on.  Return whether its roster differs from the old one, and so changes the digest of every job."""
        before, self.config = self.config, config
        return before.load_roster().digest != config.load_roster().digest

    def objection(self, record: Record, *, other_roster: bool) -> LocalFault | Disagreement | None:
        """Return why a job that this party has not signed yet is not possible under what applies now; None if it is possible."""
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
        """Return how many rows this party's policy wants all parties of the job to have together."""
        return least_pool(self.config.rules, task)

    def proposed(self, job: str, asker: str, task: Task) -> bool:
        """Return whether someone here must first approve a job that another member proposes.
        Raises what `admits` raises, and ConfigError if the job's id is not free or the job is not one of the asker's own.
        """
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
