"""CPU and memory of this machine while a training runs, in its MLflow run."""

from collections.abc import Callable

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor


class SystemMetrics(SystemMetricsMonitor):
    """Logs CPU and memory every two seconds, from the end of the first epoch on.

    MLflow's page that compares runs opens on the metric that was logged first: it has to be the model's.
    """

    def __init__(self, run_id: str, has_epoch: Callable[[], bool]) -> None:
        """Prepare the thread.

        Args:
            run_id: the run.
            has_epoch: returns whether the run has metrics of an epoch.
        """
        super().__init__(run_id, resume_logging=True)
        self._has_epoch = has_epoch
        self._latest: dict[str, float] | None = None
        """The newest sample while the run has no epoch."""

    def publish_metrics(self, metrics: dict[str, float]) -> None:
        """Log a sample, or keep it until the run has an epoch."""
        if self._has_epoch():
            self._latest = None
            super().publish_metrics(metrics)
        else:
            self._latest = metrics

    def finish(self) -> None:
        """End the thread. A training that ended sooner than the next sample has one nevertheless."""
        if self._latest:
            self.publish_metrics(self._latest)
        super().finish()
