"""CPU and memory of this machine while a training runs, in its MLflow run."""

import logging
from collections.abc import Callable

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

log = logging.getLogger(__name__)


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
        self._has_published = False

    def publish_metrics(self, metrics: dict[str, float]) -> None:
        """Log the mean of the samples, or go on collecting them until the run has an epoch."""
        if self._has_epoch():
            self._has_published = True
            super().publish_metrics(metrics)

    def finish(self) -> None:
        """End the thread. A training that ended before the first mean was due has one nevertheless."""
        if self._process is not None:
            self._shutdown_event.set()
            self._process.join()
            if not self._has_published:
                self._publish_what_there_is()
        super().finish()

    def _publish_what_there_is(self) -> None:
        try:
            self.collect_metrics()
            self.publish_metrics(self.aggregate_metrics())
        except Exception as error:  # as in the thread: the store may refuse them in many ways
            log.warning("System metrics are not logged: %s", error)
