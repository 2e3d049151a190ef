"""What KEDA does with the chart's ScaledObject, and Kubernetes with the autoscaler of pods that KEDA
makes of it: on paper, for simulations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from jobs.queue import TASK_KINDS, TaskKind

# Where nobody says otherwise.
_SYNC_SECONDS, _TOLERANCE, _MOST_NEW_PODS = 15.0, 0.1, 4


@dataclass(frozen=True)
class Pool:
    """Workers of one kind.

    Attributes:
        name: For people.
        models: That they have.
        autoscaling: As in the chart's values.
        task_seconds: How long plan, segment and join take.
        start_seconds: Until a pod takes its first task.
        only: Kinds of tasks that it takes.
    """

    name: str
    models: tuple[str, ...]
    autoscaling: dict[str, int]
    task_seconds: dict[str, float]
    start_seconds: float
    only: tuple[TaskKind, ...] = TASK_KINDS


@dataclass
class Scaler:
    """KEDA and a HorizontalPodAutoscaler for one pool."""

    pool: Pool
    replicas: int = 0
    active_at: float = float("-inf")
    synced_at: float = float("-inf")
    proposals: list[tuple[float, int]] = field(default_factory=list)

    def decide(self, now: float, wanted: int) -> int:
        """How many pods there should be."""
        values = self.pool.autoscaling
        if wanted > 0:
            self.active_at = now
        if not self.replicas:
            self.proposals.clear()
            self.replicas = max(values["min"], min(1, wanted))
        elif wanted == 0 and now >= self.active_at + values["cooldownPeriod"]:
            self.replicas = values["min"]
        elif now >= self.synced_at + _SYNC_SECONDS:
            self.synced_at = now
            self._sync(now, wanted)
        return self.replicas

    def _sync(self, now: float, wanted: int) -> None:
        values = self.pool.autoscaling
        ratio = wanted / (values["segmentsPerWorker"] * self.replicas)
        proposal = self.replicas
        if abs(ratio - 1) > _TOLERANCE:
            proposal = math.ceil(wanted / values["segmentsPerWorker"])
        proposal = min(max(proposal, values["min"], 1), values["max"])
        window = values["cooldownPeriod"]
        self.proposals = [(at, p) for at, p in self.proposals if at > now - window] + [(now, proposal)]
        if proposal < self.replicas:
            # Stabilisation: not below what was wanted lately.
            proposal = min(self.replicas, max(p for _, p in self.proposals))
        self.replicas = min(proposal, self.replicas + max(_MOST_NEW_PODS, self.replicas))
