"""A runner of Beam's that starts a job server of its own, as FlinkRunner and SparkRunner do."""

from apache_beam.options.pipeline_options import PortableOptions
from apache_beam.runners.portability.job_server import EmbeddedJobServer, StopOnExitJobServer
from apache_beam.runners.portability.portable_runner import PortableRunner


class OwnServer(PortableRunner):
    """The server is Beam's local job service, in this process; it handles SIGINT for it."""

    def default_environment(self, options):
        options.view_as(PortableOptions).environment_type = "LOOPBACK"
        return super().default_environment(options)

    def default_job_server(self, options):
        return StopOnExitJobServer(EmbeddedJobServer())
